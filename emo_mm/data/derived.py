"""The folder for what a run reads in place of the user's files: lists of splits, repaired copies, converted masks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

DERIVED = 'checked_data'  # in the work directory

_elsewhere: ContextVar[Path | None] = ContextVar('elsewhere', default=None)


def derived_folder(work_dir: str | Path) -> Path:
    """Return the folder: in the work directory, or where ``derived_elsewhere`` puts it."""
    return _elsewhere.get() or Path(work_dir).absolute() / DERIVED


@contextmanager
def derived_elsewhere(folder: Path | None) -> Iterator[None]:
    """Put into another folder what a run would read; for a dry run, whose steps read it too. None changes nothing."""
    token = _elsewhere.set(folder)
    try:
        yield
    finally:
        _elsewhere.reset(token)
