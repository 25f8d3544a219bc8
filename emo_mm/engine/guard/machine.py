"""What the machine lacks during a run, as one message with the setting to change."""

from __future__ import annotations

import contextlib
import errno
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from emo_mm.errors import UserError, first_line, last_line

if TYPE_CHECKING:
    from mmengine.config import Config

# Only its size is looked at.
SHARED_MEMORY = Path('/dev/shm')  # nosec B108
_RESUME = 'then continue with --resume'
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.ENODEV)
_CPU_MEMORY = r"can't allocate memory|Cannot allocate memory|\(-4:Insufficient memory\)|bad_alloc|MemoryError"


@contextlib.contextmanager
def explain_machine_errors(cfg: Config) -> Iterator[None]:
    """Turn what the machine lacks during a run into a :class:`UserError`; other errors stay as they are."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        message = explanation(error, cfg)
        if message is None:
            raise
        raise UserError(message) from error


def explanation(error: BaseException, cfg: Config) -> str | None:
    """Return what the machine lacks, after an error, and the setting to change; None for errors of other kinds.

    Args:
        error: What was raised in a run.
        cfg: The config of the run, for its settings.
    """
    text = '\n'.join(map(str, _chain(error)))
    loader = cfg.get('train_dataloader') or cfg.get('test_dataloader') or {}
    workers = loader.get('num_workers', 0)
    batch_size = loader.get('batch_size') if cfg.get('train_dataloader') else None
    smaller = f'a smaller --batch-size (now {batch_size})' if batch_size else 'smaller batches in the config'
    fewer = f'fewer loader processes (--workers, now {workers})'

    if isinstance(error, torch.OutOfMemoryError) or 'CUDA out of memory' in text:
        why = _telling_line(error)
        return f'the GPU has too little memory: give {smaller}, --amp or a smaller input; {_RESUME} ({why})'
    if re.search(r'Bus error|unable to (write to|open|allocate|resize|mmap).*(shm|/torch_|shared memory)', text):
        return (
            f'{SHARED_MEMORY}, through which the loader processes pass images on, is full{_size()}: give {fewer}, '
            f'{smaller}, or more shared memory (docker run --shm-size=8g); --workers 0 needs none; {_RESUME}'
        )
    killed = re.search(r'DataLoader worker.*killed by signal: (\w+)', text)
    if killed and killed[1] == 'Killed':
        return (
            f'a loader process was killed, as Linux does when memory runs out: give {fewer}, {smaller}, and where '
            f'images are kept --cache disk or a smaller --cache-gb; {_RESUME}'
        )
    if killed or re.search(r'DataLoader worker.*exited unexpectedly', text):
        how = f'died of signal {killed[1]}' if killed else 'ended unexpectedly'
        return f'a loader process {how}: --workers 0 loads in the main process and shows where; {_RESUME}'
    if 'Too many open files' in text or 'received 0 items of ancdata' in text:
        return f'too many files are open: raise the limit (ulimit -n 65536) or give {fewer}; {_RESUME}'
    if isinstance(error, MemoryError) or re.search(_CPU_MEMORY, text):
        return (
            f'memory ran out: give {smaller}, {fewer}, and where images are kept --cache disk or a smaller --cache-gb; '
            f'{_RESUME} ({_telling_line(error)})'
        )
    if isinstance(error, OSError) and (error.errno in _DISK or _in_work_dir(error, cfg)):
        return (
            f'{error.filename or cfg.work_dir} cannot be written: {error.strerror}; the earlier checkpoints are '
            f'complete: fix it, {_RESUME}'
        )
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those that led to it: when a loader process dies, they say more than the last one."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _in_work_dir(error: OSError, cfg: Config) -> bool:
    path = None if error.filename is None else Path(str(error.filename)).resolve()
    return path is not None and path.is_relative_to(Path(cfg.work_dir).resolve())


def _size() -> str:
    with contextlib.suppress(OSError):
        usage = shutil.disk_usage(SHARED_MEMORY)
        return f' ({usage.free / 1e6:.0f} of {usage.total / 1e6:.0f} MB free now)'
    return ''


def _telling_line(error: BaseException) -> str:
    """Return the line that says what an error is: of one in a loader process, the last, after its traceback."""
    first = first_line(error)
    return last_line(error) if 'DataLoader worker' in first else first
