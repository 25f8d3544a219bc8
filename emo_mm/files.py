"""Files that are complete or not there."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO


@contextmanager
def atomic_write(target: Path, durable: bool = True) -> Iterator[BinaryIO]:
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


def write_json(target: Path, content: Any) -> None:
    """Write a JSON file, complete or not at all; a link or a device, such as ``/dev/stdout``, is written to as it is.

    Args:
        target: The place, in an existing folder.
        content: What ``json`` can write.

    Raises:
        OSError: If it cannot be written.
    """
    text = json.dumps(content, indent=1)
    if target.is_symlink() or (target.exists() and not target.is_file()):
        target.write_text(text, encoding='utf-8')
        return
    with atomic_write(target) as file:
        file.write(text.encode())
