"""Progress bars over files: silent where the work is short, rare lines where nobody watches."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

_SILENT_SECONDS = 2  # before a progress bar appears


def file_bar(total: int, words: str) -> Any:
    """Return a progress bar, to be used in a ``with``.

    Args:
        total: Number of files.
        words: What is done to them.
    """
    return tqdm(
        total=total,
        desc=words,
        unit='file',
        delay=_SILENT_SECONDS,
        mininterval=0.1 if sys.stderr.isatty() else 15,
        dynamic_ncols=True,
    )
