"""How long a training is, and how its learning rate runs."""

from __future__ import annotations

from emo_mm.config.edits import Change, Edit, Part
from emo_mm.config.view import ConfigView
from emo_mm.engine.options import TrainOptions
from emo_mm.errors import UserError


def length(view: ConfigView, options: TrainOptions) -> Change:
    """Change the length of a training and stretch its schedules in proportion, but for warm-ups counted in iterations.

    Raises:
        UserError: If the config counts in the other unit, or the length is below 1.
    """
    epochs, iters = options.epochs, options.iters
    if epochs is None and iters is None:
        return Change()
    loop = view.part('train_cfg')
    by_epoch = 'max_epochs' in loop.node
    new = epochs if by_epoch else iters
    if new is None or (epochs is not None and iters is not None):
        raise UserError(f'this config counts in {"epochs: use --epochs" if by_epoch else "iterations: use --iters"}')
    if new < 1:
        raise UserError(f'{"--epochs" if by_epoch else "--iters"} is {new}; it must be at least 1')
    key = 'max_epochs' if by_epoch else 'max_iters'
    old = loop.node[key]
    edits = loop.edit(**{key: new, 'val_interval': min(loop.node.get('val_interval', 1), new)})
    stretched = [_stretch(part, new / old, old, by_epoch) for part in view.schedulers]
    return Change((*edits, *(edit for edits in stretched for edit in edits)))


def _stretch(scheduler: Part, factor: float, old: int, by_epoch: bool) -> tuple[Edit, ...]:
    """Return the edits that stretch one schedule by a factor."""
    node = scheduler.node
    is_warm_up = node.get('end', old) < old
    if node.get('by_epoch', True) != by_epoch or (is_warm_up and not by_epoch):
        return ()
    marks = [key for key in ('begin', 'end', 'T_max') if key in node]
    return scheduler.edit(**{key: max(round(node[key] * factor), int(key != 'begin')) for key in marks})


def learning_rate(view: ConfigView, options: TrainOptions) -> Change:
    """Take the base learning rate, or let MMEngine scale it with the batch size.

    Raises:
        UserError: If it is to be scaled and the config does not say for which batch size it is meant.
    """
    edits = () if options.lr is None else view.part('optim_wrapper.optimizer').edit(lr=options.lr)
    if not options.auto_scale_lr:
        return Change(edits)
    scaling = view.part('auto_scale_lr')
    if 'base_batch_size' not in scaling.node:
        raise UserError(f'--auto-scale-lr: the config {options.config} has no auto_scale_lr.base_batch_size')
    return Change((*edits, *scaling.edit(enable=True)))
