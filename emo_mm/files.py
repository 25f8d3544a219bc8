"""Files that are complete or not there, whatever moment the process or the machine dies at."""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

_PARTIAL = '.partial'


@contextlib.contextmanager
def atomic_write(target: Path, durable: bool = True) -> Iterator[BinaryIO]:
    """Open a file for writing that appears at its place complete or not at all.

    It is written beside its place under a name that nobody can foresee, and never through a link that lies there; a
    link at the place itself is replaced, not followed. A file that was at the place stays as it is until then.

    Args:
        target: The place, in an existing folder.
        durable: Whether the disk must have the file before it gets its name, and its name before this returns.

    Raises:
        OSError: If it cannot be written; nothing is left of the attempt.
    """
    partial = target.with_name(f'.{secrets.token_hex(8)}{_PARTIAL}')
    try:
        with partial.open('xb') as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        partial.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):  # what went wrong first is what counts
            partial.unlink()
        raise
    if durable:
        _sync_folder(target.parent)


def write_bytes(target: Path, data: bytes | memoryview, durable: bool = True) -> None:
    """Write a file, complete or not at all, as :func:`atomic_write` does.

    Args:
        target: The place, in an existing folder.
        data: The content.
        durable: Whether to wait until the disk has it.

    Raises:
        OSError: If it cannot be written; nothing is left of the attempt.
    """
    with atomic_write(target, durable) as file:
        file.write(data)


def write_json(target: Path, content: Any) -> None:
    """Write a JSON file, complete or not at all; write to a link or a device, such as ``/dev/stdout``, as it is.

    Args:
        target: The place, in an existing folder.
        content: What ``json`` can write. Numbers that are not finite become null, as JSON has no word for them.

    Raises:
        OSError: If it cannot be written.
    """
    text = json.dumps(_finite(content), indent=1, allow_nan=False)
    if target.is_symlink() or (target.exists() and not target.is_file()):
        target.write_text(text, encoding='utf-8')
        return
    write_bytes(target, text.encode())


def _finite(content: Any) -> Any:
    """Return what JSON can hold, with None for each number that is not finite."""
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def remove_partial_files(folder: Path) -> list[Path]:
    """Remove what writers that were killed left in a folder.

    Args:
        folder: The folder; no other process may be writing to it.

    Returns:
        The removed files.

    Raises:
        OSError: If one cannot be removed.
    """
    found = sorted(folder.glob(f'.*{_PARTIAL}'))
    for path in found:
        path.unlink(missing_ok=True)
    return found


def _sync_folder(folder: Path) -> None:
    """Bring the new name to the disk too; some network file systems have no such call for folders."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
