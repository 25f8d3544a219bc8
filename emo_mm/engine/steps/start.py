"""What a training starts from: weights, a seed, or a checkpoint to continue."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from emo_mm.config.edits import Change, Edit
from emo_mm.config.parts import dataset_classes, type_name
from emo_mm.config.pipeline import steps_of
from emo_mm.config.view import ConfigView
from emo_mm.data.splits import count, shortlist
from emo_mm.engine.options import TrainOptions
from emo_mm.errors import UserError

_KEEPS = 'max_cached_images'  # setting of a transform that keeps images from one call to the next
# Statistics and layers that were never trained must not be frozen: setting -> its value from scratch.
_FROM_SCRATCH = {'norm_eval': False, 'frozen_stages': -1}


def weights(view: ConfigView, options: TrainOptions) -> Change:
    """Start the backbone from the weights asked for, or from random ones."""
    backbone = view.part('model.backbone')
    if options.weights is None:
        return Change()
    if options.weights != 'none':
        return Change(backbone.edit(init_cfg=dict(type='Pretrained', checkpoint=options.weights)))
    changed = {key: value for key, value in _FROM_SCRATCH.items() if backbone.node.get(key, value) != value}
    note = f' with {", ".join(f"{key}={value}" for key, value in changed.items())}' if changed else ''
    edits = (*backbone.remove('init_cfg'), *backbone.edit(**changed))
    return Change(edits, (f'the backbone starts from random weights{note}',))


def freeze(view: ConfigView, options: TrainOptions) -> Change:
    """Freeze stages of the backbone, if asked for.

    Raises:
        UserError: If the backbone cannot, has fewer stages, or starts from random weights.
    """
    if options.freeze is None:
        return Change()
    backbone, last = view.part('model.backbone'), options.freeze
    from mmengine.registry import MODELS

    from emo_mm.models.pyramid import MobilePyramid
    from emo_mm.models.settings import STAGES

    kind: Any = backbone.node.get('type')
    if isinstance(kind, str):
        kind = MODELS.get(kind if '.' in kind else f'{view.task.scope}.{kind}')
    if kind is None or 'frozen_stages' not in inspect.signature(kind).parameters:
        raise UserError(f'--freeze: {type_name(backbone.node) or "the model"} has no frozen_stages; leave the flag out')
    if issubclass(kind, MobilePyramid) and not -1 <= last <= STAGES:
        raise UserError(f'--freeze is {last}; it must be -1 (nothing), 0 (the stem) or 1 to {STAGES}')
    edits = backbone.edit(frozen_stages=last)
    if last < 0:
        return Change(edits, ('no stage of the backbone is frozen',))
    if not backbone.node.get('init_cfg') and not view.cfg.get('load_from') and options.resume is None:
        raise UserError('--freeze: the backbone starts from random weights, which must learn; give --weights too')
    frozen = ('stem', 'stem and stage 1')[last] if last < 2 else f'stem and stages 1 to {last}'
    line = f'frozen: the {frozen} of the backbone, with their weights and the statistics of their BatchNorms'
    return Change(edits, (line,))


def seed(view: ConfigView, options: TrainOptions) -> Change:
    """Take the seed of the random number generators."""
    return Change() if options.seed is None else Change((Edit('randomness', dict(seed=options.seed)),))


def resume(view: ConfigView, options: TrainOptions) -> Change:
    """Continue from a checkpoint, with the seed of the run that wrote it.

    Raises:
        UserError: If the file cannot be resumed from, or none of the work directory's can.
    """
    cfg = view.cfg
    asked = options.resume or ((cfg.get('load_from') or 'auto') if cfg.get('resume') else None)
    return Change() if asked is None else resume_from(view, asked)


def resume_from(view: ConfigView, asked: str) -> Change:
    """Continue from a checkpoint, with the seed of the run that wrote it.

    Args:
        view: The config, with its work directory and the seed that the user gave, if any.
        asked: A file, or ``auto`` for the newest complete checkpoint of the work directory.

    Raises:
        UserError: If the file cannot be resumed from, or none of the work directory's can.
    """
    from emo_mm.engine.resume.resuming import newest_checkpoint, read_resume_point

    cfg = view.cfg
    if asked == 'auto':
        checkpoint, skipped = newest_checkpoint(Path(cfg.work_dir))
        if checkpoint is None:
            line = f'{cfg.work_dir} holds no checkpoint yet: the training starts from its beginning'
            return Change((Edit('resume', False),), (line,))
    else:
        try:
            checkpoint, skipped = read_resume_point(Path(asked)), []
        except UserError as error:
            raise UserError(f'--resume {error}') from None
    _check_classes(view, checkpoint.path, checkpoint.classes)
    edits = [Edit('resume', True), Edit('load_from', str(checkpoint.path))]
    lines = [*(f'skipped {reason}' for reason in skipped), f'resuming from {checkpoint}']
    randomness = cfg.get('randomness') or {}
    given = randomness.get('seed')
    if checkpoint.seed is not None and given != checkpoint.seed:
        edits.append(Edit('randomness', {**randomness, 'seed': checkpoint.seed}))
        if given is not None:
            lines.append(f'seed {given} is not used: the run continues with its own, {checkpoint.seed}')
    return Change(tuple(edits), (*lines, *not_exact(view)))


def not_exact(view: ConfigView) -> tuple[str, ...]:
    """Return a line if a resumed training is not bit for bit that without a stop."""
    kept = dict.fromkeys(type_name(step.node) for step in steps_of(view, 'train') if _KEEPS in step.node)
    if not kept:
        return ()
    return (
        f'{" and ".join(kept)} mix images of the calls before, and begin without any: other mixtures are trained on',
    )


def _check_classes(view: ConfigView, path: Path, trained: tuple[str, ...] | None) -> None:
    """Check that a training continues with the classes that it began with.

    Raises:
        UserError: If the data have others.
    """
    datasets = view.splits['train'].datasets
    if trained is None or not datasets or not view.cfg.get('default_scope'):
        return
    classes = dataset_classes(datasets[0].node, view.task.scope)
    if classes is None or tuple(map(str, classes)) == trained:
        return
    raise UserError(
        f'--resume {path}: it was trained for {count(len(trained), "class", "classes")} ({shortlist(trained, 4)}), and '
        f'the data have {len(classes)} ({shortlist(classes, 4)}); to start a training from its backbone: '
        f'--weights {path} without --resume'
    )
