"""Files that are either whole or not there, whatever moment the process or the machine dies at."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

ATOMIC_BACKEND = 'emo_mm_atomic'  # for MMEngine's ``backend_args``
_SUFFIX = '.partial'


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file under another name in the same folder, bring it to the disk, and only then give it its name.

    Args:
        path: The file; one of this name stays as it is until the new one is complete.
        data: What it shall hold.

    Raises:
        OSError: If it cannot be written; nothing is left of the attempt.
    """
    partial = path.with_name(f'.{path.name}{_SUFFIX}')
    try:
        with partial.open('wb') as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    _sync_folder(path.parent)


def remove_partial_files(folder: Path) -> list[Path]:
    """Remove what writers that were killed left in a folder; return what it was."""
    found = sorted(folder.glob(f'.*{_SUFFIX}'))
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


class AtomicBackend(LocalBackend):
    """MMEngine's backend for local files, writing them atomically."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes to a file, making its folder where there is none."""
        path = Path(filepath)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, obj)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Write text to a file, making its folder where there is none."""
        self.put(obj.encode(encoding), filepath)


register_backend(ATOMIC_BACKEND, AtomicBackend, force=True)
