"""The checkpoint to continue a training from: the newest complete one, or one that is named."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from emo_mm.engine.resume.checkpoints import POINTER
from emo_mm.errors import UserError
from emo_mm.weights.untrusted.safe import safe_load

_NEEDED = ('state_dict', 'optimizer', 'message_hub', 'meta')


@dataclass(frozen=True)
class ResumePoint:
    """A checkpoint that a training can go on from.

    Attributes:
        path: The file.
        epoch: Epochs that are done.
        iteration: Iterations that are done.
        seed: Seed of the run that wrote it; None where it did not say.
        saved_at: When it was written, in seconds since 1970.
        classes: Classes that it was trained for; None where it did not say.
    """

    path: Path
    epoch: int
    iteration: int
    seed: int | None
    saved_at: float
    classes: tuple[str, ...] | None = None

    def __str__(self) -> str:
        return f'{self.path} (epoch {self.epoch}, iteration {self.iteration})'


def newest_checkpoint(work_dir: Path) -> tuple[ResumePoint | None, list[str]]:
    """Return the newest complete checkpoint of a work directory, and why others were skipped.

    The newest is the one that was written last, whatever its name, and whatever the file ``last_checkpoint`` says.

    Args:
        work_dir: The directory; where ``last_checkpoint`` points elsewhere, that folder is searched too.

    Returns:
        The checkpoint, None where there is none at all; and a line for each that was skipped.

    Raises:
        UserError: If there are checkpoints and none is complete.
    """
    folders = [work_dir]
    pointer = work_dir / POINTER
    with suppress(OSError, UnicodeDecodeError):
        folders.append(Path(pointer.read_text().strip()).parent)
    paths = {path.resolve(): path for folder in folders for path in folder.glob('*.pth')}
    readable, skipped = [], []
    for path in sorted(paths.values()):
        if path.name.startswith('best_'):
            continue  # without the state of the optimizer
        try:
            readable.append(_glance(path))
        except UserError as error:
            skipped.append(str(error))
    for found in sorted(readable, key=lambda found: (found.saved_at, found.iteration), reverse=True):
        try:
            return read_resume_point(found.path), skipped
        except UserError as error:
            skipped.append(str(error))
    if skipped:
        raise UserError(
            f'{work_dir} holds no complete checkpoint to go on from; leave out --resume to start over\n  '
            + '\n  '.join(skipped)
        )
    return None, []


def read_resume_point(path: Path) -> ResumePoint:
    """Read all of a checkpoint and check that a training can go on from it.

    Raises:
        UserError: If it is damaged, or lacks what a training needs.
    """
    checkpoint = safe_load(path)
    found = _described(path, checkpoint)
    if not all(isinstance(value, Tensor) for value in checkpoint['state_dict'].values()):
        raise UserError(f'{path} holds other things than tensors in its state_dict; take another checkpoint')
    return found


def _glance(path: Path) -> ResumePoint:
    """Read a checkpoint without its tensors."""
    return _described(path, safe_load(path, mmap=True))


def _described(path: Path, checkpoint: Any) -> ResumePoint:
    missing = [key for key in _NEEDED if not isinstance(checkpoint, dict) or key not in checkpoint]
    if missing:
        raise UserError(
            f'{path} holds no {", ".join(missing)}, so no training can go on from it; take an epoch_*.pth or '
            f'iter_*.pth (weights alone are something to start from: --weights, or load_from in the config)'
        )
    meta = checkpoint['meta']
    if not all(isinstance(meta.get(key), int) for key in ('epoch', 'iter')):
        raise UserError(f'{path} does not say which epoch and iteration it is of; take another checkpoint')
    saved_at = checkpoint.get('resume', {}).get('saved_at')
    return ResumePoint(
        path, meta['epoch'], meta['iter'], meta.get('seed'), saved_at or _saved_at(path, meta), _classes(meta)
    )


def _classes(meta: dict[str, Any]) -> tuple[str, ...] | None:
    known = meta.get('dataset_meta')
    classes = known.get('classes') if isinstance(known, dict) else None
    return tuple(map(str, classes)) if isinstance(classes, (list, tuple)) and classes else None


def _saved_at(path: Path, meta: dict[str, Any]) -> float:
    """Return the time that MMEngine noted, or that of the file, which a copy need not keep."""
    with suppress(TypeError, ValueError, KeyError):
        return time.mktime(time.strptime(meta['time'], '%Y%m%d_%H%M%S'))
    return path.stat().st_mtime
