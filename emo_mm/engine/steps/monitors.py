"""The metrics that hooks watch: MMEngine looks for one by its name only after the first validation."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from emo_mm.config.edits import Change
from emo_mm.config.parts import type_name
from emo_mm.config.view import ConfigView
from emo_mm.engine.options import RunOptions
from emo_mm.errors import UserError

_Names = Callable[[Mapping[str, Any]], list[str] | None]


def watched_metrics(view: ConfigView, options: RunOptions) -> Change:
    """Check that the metrics that hooks watch are among those that the validation computes.

    Raises:
        UserError: If one is not; the message names those that are.
    """
    if not view.training:
        return Change()
    lists = [_metric_names(evaluator.node) for evaluator in view.splits['val'].evaluators]
    known = [name for names in lists for name in names or ()]
    if not known or None in lists:  # a metric whose names nobody knows before it runs
        return Change()
    for place, name in _watched(view):
        if name not in known:
            near = [one for one in known if one.rpartition('/')[2].lower() == name.lower()]
            near = near or difflib.get_close_matches(name, known, n=1)
            hint = f'; did you mean {near[0]}?' if near else ''
            raise UserError(
                f'{place} is {name!r}, which the validation does not compute: it gives {", ".join(known)}{hint}'
            )
    return Change()


def _watched(view: ConfigView) -> Iterator[tuple[str, str]]:
    """Yield the places of the config that name a metric, and the metrics."""
    checkpoint = view.hooks.get('checkpoint')
    best = checkpoint.node.get('save_best') if checkpoint else None
    # one name or several; MMEngine's hook tells of other types
    names = [best] if isinstance(best, str) else best if isinstance(best, (list, tuple)) else []
    for name in names:
        if name != 'auto' and checkpoint is not None:
            yield f'{checkpoint.place}.save_best', str(name)
    for index, hook in enumerate(view.custom_hooks):
        if type_name(hook) == 'EarlyStoppingHook' and 'monitor' in hook:
            yield f'custom_hooks.{index}.monitor', str(hook['monitor'])


def _metric_names(evaluator: Mapping[str, Any]) -> list[str] | None:
    """Return what an evaluator computes, as it is logged; None if that is not known."""
    kind = type_name(evaluator)
    if kind not in _NAMES:
        return None
    default, names_of = _NAMES[kind]
    names = names_of(evaluator)
    prefix = evaluator.get('prefix') or default
    return None if names is None else [f'{prefix}/{name}' if prefix else name for name in names]


_COCO_ITEMS = ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')
_IOU = {'mIoU': ('mIoU', 'mAcc'), 'mDice': ('mDice', 'mAcc'), 'mFscore': ('mFscore', 'mPrecision', 'mRecall')}


def _of_coco(settings: Mapping[str, Any]) -> list[str] | None:
    kinds = _listed(settings.get('metric', 'bbox'))
    if settings.get('classwise') or not set(kinds) <= {'bbox', 'segm'}:
        return None
    return [f'{kind}_{item}' for kind in kinds for item in settings.get('metric_items') or _COCO_ITEMS]


def _of_iou(settings: Mapping[str, Any]) -> list[str] | None:
    kinds = _listed(settings.get('iou_metrics', 'mIoU'))
    return ['aAcc', *dict.fromkeys(name for kind in kinds for name in _IOU.get(kind, ()))]


def _of_accuracy(settings: Mapping[str, Any]) -> list[str] | None:
    if settings.get('thrs', 0.0) != 0.0:
        return None
    return [f'top{k}' for k in _listed(settings.get('topk', 1))]


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


# type of an evaluator -> what stands before its metrics, and their names by its settings
_NAMES: dict[str, tuple[str, _Names]] = {
    'CocoMetric': ('coco', _of_coco),
    'FasterCocoMetric': ('coco', _of_coco),
    'IoUMetric': ('', _of_iou),
    'Accuracy': ('accuracy', _of_accuracy),
}
