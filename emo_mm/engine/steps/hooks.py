"""Hooks and loops: checkpoints that survive, numbers that stay finite, logs, a progress bar."""

from __future__ import annotations

from emo_mm.config.edits import Change, Edit
from emo_mm.config.parts import type_name
from emo_mm.config.view import ConfigView
from emo_mm.data.splits import count
from emo_mm.engine.options import RunOptions, TrainOptions
from emo_mm.errors import UserError

_LOOPS = {
    'EpochBasedTrainLoop': 'emo_mm.ResumableEpochLoop',
    'IterBasedTrainLoop': 'emo_mm.ResumableIterLoop',
}
_REMOTE = ('file_client_args', 'backend_args')  # settings of a hook that does not write to local files
# mmdet's hook that looks at the loss now and then, after the step. It would look for the loss of skipped steps too.
_SUPERSEDED = 'CheckInvalidLossHook'


def resumable_loop(view: ConfigView, options: RunOptions) -> Change:
    """Exchange MMEngine's training loop for one that continues in the middle of an epoch."""
    if not _writes_local_files(view):
        return Change()
    loop = view.part('train_cfg')
    kind = type_name(loop.node)
    if not kind:
        kind = 'EpochBasedTrainLoop' if loop.node.get('by_epoch', True) else 'IterBasedTrainLoop'
    if kind not in _LOOPS:
        return Change(
            lines=(f'train_cfg.type is {kind}: signals save no checkpoint, and a resumed run may repeat images',)
        )
    edits = () if type_name(loop.node) else loop.remove('by_epoch')
    return Change((*edits, *loop.edit(type=_LOOPS[kind])))


def safe_checkpoints(view: ConfigView, options: RunOptions) -> Change:
    """Exchange MMEngine's own checkpoint hook for one whose files survive, unless it writes elsewhere than to disk."""
    if not _writes_local_files(view):
        line = 'the checkpoints are not written by MMEngine itself to local files: signals do not save one'
        return Change(lines=(line,))
    edits = [Edit('default_hooks.checkpoint.type', 'emo_mm.SafeCheckpointHook')]
    if not any(type_name(hook) == 'PlainCheckpointHook' for hook in view.custom_hooks):
        edits.append(Edit('custom_hooks', [*view.custom_hooks, dict(type='emo_mm.PlainCheckpointHook')]))
    return Change(tuple(edits))


def _writes_local_files(view: ConfigView) -> bool:
    """Tell whether checkpoints are written by MMEngine's hook, or by ours, to local files."""
    hooks = view.cfg.get('default_hooks') or {}
    if 'checkpoint' not in hooks:  # MMEngine adds its own
        return True
    hook = hooks['checkpoint']
    known = hook is not None and type_name(hook) in ('CheckpointHook', 'SafeCheckpointHook')
    return known and not any(hook.get(key) for key in _REMOTE)


def short_logs(view: ConfigView, options: RunOptions) -> Change:
    """Log at least once in a training of few iterations: without a loss there is no curve to draw."""
    logger, loop = view.hooks.get('logger'), view.part('train_cfg').node
    if logger is None or 'max_iters' not in loop:
        return Change()
    return Change(logger.edit(interval=max(1, min(logger.node.get('interval', 10), loop['max_iters']))))


def patience(view: ConfigView, options: TrainOptions) -> Change:
    """Stop a training whose validations no longer improve, if asked for.

    Raises:
        UserError: If it validates nothing, or no metric says which checkpoint is best.
    """
    if options.patience is None:
        return Change()
    if view.cfg.get('val_dataloader') is None:
        raise UserError('--patience counts validations, and this run has none; leave the flag out')
    saved = view.hooks['checkpoint'].node if 'checkpoint' in view.hooks else {}
    metric = saved.get('save_best')
    metric = metric[0] if isinstance(metric, (list, tuple)) else metric
    named = metric != 'auto'
    metric = metric if named else view.task.metrics[0]
    if not metric:
        raise UserError(
            '--patience needs a metric: set default_hooks.checkpoint.save_best with --cfg-options, such as '
            f'default_hooks.checkpoint.save_best={view.task.metrics[0]}'
        )
    rule = saved.get('rule')
    # a score that stays exactly the same is no better one
    stopping = dict(type='EarlyStoppingHook', monitor=metric, patience=options.patience, min_delta=1e-6, strict=named)
    if isinstance(rule, str):
        stopping['rule'] = rule
    line = f'training stops after {count(options.patience, "validation")} in a row without a better {metric}'
    return Change((Edit('custom_hooks', [*view.custom_hooks, stopping]),), (line,))


def progress(view: ConfigView, options: RunOptions) -> Change:
    """Show a progress bar over the whole training."""
    return Change((Edit('custom_hooks', [*view.custom_hooks, dict(type='emo_mm.ProgressHook')]),))


def finite_numbers(view: ConfigView, options: TrainOptions) -> Change:
    """Let a training stop, or skip up to so many steps, where its loss or gradients are not finite.

    Raises:
        UserError: If the number of steps is negative.
    """
    skip = options.skip_non_finite
    if skip < 0:
        raise UserError(f'--skip-non-finite is {skip}; it must be 0 or more')
    others = [hook for hook in view.custom_hooks if type_name(hook) != _SUPERSEDED]
    return Change((Edit('custom_hooks', [*others, dict(type='emo_mm.FiniteHook', skip=skip)]),))
