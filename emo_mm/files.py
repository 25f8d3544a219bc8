"""Writing files whole."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def written_whole(target: Path, durable: bool = True) -> Iterator[BinaryIO]:
    """Give a file to write, which appears at its place whole or not at all.

    It is written beside its place under a name that nobody can foresee, and never through a link that lies there; a
    link at the place itself is replaced, not followed.

    Args:
        target: The place, in an existing folder.
        durable: Whether to wait until the disk has it.

    Raises:
        OSError: If it cannot be written.
    """
    partial = target.with_name(f'.{secrets.token_hex(8)}.part')
    try:
        with partial.open('xb') as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
