"""MMEngine's backend for local files, writing them complete or not at all."""

from __future__ import annotations

from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

from emo_mm.files import write_bytes

ATOMIC_BACKEND = 'emo_mm_atomic'  # for MMEngine's ``backend_args``


class AtomicBackend(LocalBackend):
    """MMEngine's backend for local files, writing them atomically."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes to a file; make its folder where there is none."""
        path = Path(filepath)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, obj)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Write text to a file; make its folder where there is none."""
        self.put(obj.encode(encoding), filepath)


register_backend(ATOMIC_BACKEND, AtomicBackend, force=True)
