"""A full disk under the files that are being written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def full_disk() -> Iterator[None]:
    """Let partial files be made, but every write to them fail with ENOSPC."""
    open_file = Path.open

    def opened(path: Path, mode: str = 'r', *args: Any, **kwargs: Any) -> Any:
        file = open_file(path, mode, *args, **kwargs)
        if path.suffix != '.partial':
            return file
        file.close()
        return open_file(Path('/dev/full'), mode.replace('x', 'w'), *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, 'open', opened)
        yield
