"""Going on with a training: a config that can be, and the checkpoint to go on from."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from emo_mm.config.parts import dataset_classes, split_datasets, task_scope, type_name
from emo_mm.data.splits import count, shortlist
from emo_mm.engine.resume.checkpoints import POINTER
from emo_mm.errors import UserError
from emo_mm.weights.untrusted.safe import safe_load

if TYPE_CHECKING:
    from mmengine.config import Config

_LOOPS = {
    'EpochBasedTrainLoop': 'emo_mm.ResumableEpochLoop',
    'IterBasedTrainLoop': 'emo_mm.ResumableIterLoop',
}
_NEEDED = ('state_dict', 'optimizer', 'message_hub', 'meta')
_REMOTE = ('file_client_args', 'backend_args')  # settings of a hook that does not write to local files


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


def make_resumable(cfg: Config) -> list[str]:
    """Let a config save checkpoints that survive, and loops that go on in the middle of an epoch.

    MMEngine's own hook and loops are replaced by those of this package. Others stay, and so does a hook that writes
    elsewhere than to local files.

    Returns:
        Lines to print.
    """
    if 'default_hooks' not in cfg:
        cfg.default_hooks = {}
    if 'checkpoint' not in cfg.default_hooks:
        cfg.default_hooks.checkpoint = dict(type='CheckpointHook')  # MMEngine's default
    hook, loop = cfg.default_hooks.checkpoint, cfg.train_cfg
    if 'type' not in loop:
        loop.type = 'EpochBasedTrainLoop' if loop.pop('by_epoch', True) else 'IterBasedTrainLoop'
    if hook is None or type_name(hook) != 'CheckpointHook' or any(hook.get(key) for key in _REMOTE):
        return ['the checkpoints are not written by MMEngine itself to local files: signals do not save one']
    hook.type = 'emo_mm.SafeCheckpointHook'
    if not any(type_name(other) == 'PlainCheckpointHook' for other in cfg.get('custom_hooks') or []):
        cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), dict(type='emo_mm.PlainCheckpointHook')]
    if type_name(loop) not in _LOOPS:
        return [f'train_cfg.type is {type_name(loop)}: signals save no checkpoint, and a resumed run may repeat images']
    loop.type = _LOOPS[type_name(loop)]
    return []


def resume(cfg: Config, asked: str) -> list[str]:
    """Let a config go on from a checkpoint, with the seed of the run that wrote it.

    Args:
        cfg: The config, with its work directory and the seed that the user gave, if any; changed in place.
        asked: A file, or ``auto`` for the newest complete checkpoint of the work directory.

    Returns:
        Lines to print: which checkpoint it is, and which were skipped.

    Raises:
        UserError: If the file cannot be resumed from, or none of the work directory's can.
    """
    if asked == 'auto':
        checkpoint, skipped = newest_checkpoint(Path(cfg.work_dir))
        if checkpoint is None:
            cfg.resume = False
            return [f'{cfg.work_dir} holds no checkpoint yet: the training starts from its beginning']
    else:
        try:
            checkpoint, skipped = read_resume_point(Path(asked)), []
        except UserError as error:
            raise UserError(f'--resume {error}') from None
    _check_classes(cfg, checkpoint)
    cfg.resume = True
    cfg.load_from = str(checkpoint.path)
    lines = [*(f'skipped {reason}' for reason in skipped), f'resuming from {checkpoint}']
    given = (cfg.get('randomness') or {}).get('seed')
    if checkpoint.seed is not None and given != checkpoint.seed:
        cfg.randomness = dict(cfg.get('randomness') or {}, seed=checkpoint.seed)
        if given is not None:
            lines.append(f'seed {given} is not used: the run goes on with its own, {checkpoint.seed}')
    return lines


def _check_classes(cfg: Config, checkpoint: ResumePoint) -> None:
    """Check that a training goes on with the classes that it began with.

    Raises:
        UserError: If the data have others.
    """
    datasets = split_datasets(cfg, 'train')
    if checkpoint.classes is None or not datasets or not cfg.get('default_scope'):
        return
    classes = dataset_classes(datasets[0], task_scope(cfg))
    if classes is None or tuple(map(str, classes)) == checkpoint.classes:
        return
    raise UserError(
        f'--resume {checkpoint.path}: it was trained for {count(len(checkpoint.classes), "class", "classes")} '
        f'({shortlist(checkpoint.classes, 4)}), and the data have {len(classes)} ({shortlist(classes, 4)}); to start a '
        f'training from its backbone: --weights {checkpoint.path} without --resume'
    )


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
