"""Deployed files in their runtimes, behind one interface; which there are, :mod:`emo_mm.runtime.runtimes` tells."""

from __future__ import annotations

import os
from pathlib import Path
from pkgutil import resolve_name

from emo_mm.errors import UserError
from emo_mm.runtime.runtimes import is_deployed, runnable_suffixes, runtime_of
from emo_mm.runtime.sessions.session import Session

__all__ = ['Session', 'available_cores', 'is_deployed', 'open_session']


def open_session(path: str | Path, threads: int | None = None, batch: int | None = None) -> Session:
    """Open a deployed file.

    Args:
        path: The file, whose name ends as a row of ``RUNTIMES`` says.
        threads: Threads of the runtime; all cores that this process may use if None.
        batch: Images at once that a file of any batch will always get, where this is known: OpenVINO is faster then.

    Raises:
        UserError: If it is no such file, is damaged, describes itself wrongly, or its runtime is missing.
    """
    path = Path(path)
    runtime = runtime_of(path)
    if runtime is None:
        *others, last = runnable_suffixes()
        raise UserError(f'{path}: deployed files end in {", ".join(others)} or {last}')
    if not runtime.session:
        raise UserError(f'{path}: cannot be run here: {runtime.needs}')
    if not path.is_file():
        raise UserError(f'{path}: there is no such file')
    try:
        return resolve_name(runtime.session)(path, threads or available_cores(), batch)
    except ImportError:
        raise UserError(f"{path} needs {runtime.name}: pip install 'emo-mm[{runtime.extra}]'") from None


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
