"""The loss over the validation images: a loader whose images come with truth of their own size."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from emo_mm.config.edits import Change, Edit
from emo_mm.config.parts import type_name
from emo_mm.config.view import ConfigView, leaves
from emo_mm.engine.options import TrainOptions
from emo_mm.errors import UserError

_HOOK = 'ValLossHook'


def val_loss(view: ConfigView, options: TrainOptions) -> Change:
    """Compute the loss over the validation images after each validation, if asked for.

    A config that has the hook, such as that of an earlier run, gets it for the validation data of this run.

    Raises:
        UserError: If there is no validation.
    """
    others = [hook for hook in view.custom_hooks if type_name(hook) != _HOOK]
    if not options.val_loss and len(others) == len(view.custom_hooks):
        return Change()
    if options.no_val:
        raise UserError('--no-val and --val-loss exclude each other; leave one out')
    loader = view.splits['val'].loader
    if loader is None:
        raise UserError(f'--val-loss: {view.name} has no val_dataloader, so there is no validation; leave the flag out')
    hook = dict(type=f'emo_mm.{_HOOK}', dataloader=loss_loader(view, loader.node), truth=view.task.truth)
    line = (
        'validation loss: computed after each validation, by one more pass over its images, which takes about as long '
        'as the validation; curves.png draws it'
    )
    return Change((Edit('custom_hooks', [*others, hook]),), (line,))


def loss_loader(view: ConfigView, validation: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a loader of the validation images, with truth that is resized along with them.

    Args:
        view: The config; its training pipeline says which truth is loaded.
        validation: The loader of the validation, which loads truth behind the resizing: the metrics are computed at
            the size of the files, and the loss at that of the network's input.
    """
    loader: dict[str, Any] = copy.deepcopy(dict(validation))
    loader['persistent_workers'] = False  # they would wait beside those of training and validation
    split = view.splits[view.task.loss_batch].loader
    if split is not None and 'batch_size' in split.node and not loader.get('batch_sampler'):
        loader['batch_size'] = split.node['batch_size']
    trained = next((part.node['pipeline'] for part in view.splits['train'].datasets if part.node.get('pipeline')), ())
    for dataset in leaves(loader['dataset'], 'dataset'):
        if dataset.node.get('pipeline'):
            dataset.node['pipeline'] = with_early_truth(dataset.node['pipeline'], trained)
    return loader


def with_early_truth(
    pipeline: Sequence[dict[str, Any]], trained: Sequence[dict[str, Any]] = ()
) -> list[dict[str, Any]]:
    """Return a pipeline that loads the truth as soon as it has the image, so that what follows changes both.

    Args:
        pipeline: The pipeline.
        trained: That of the training, whose steps load what a loss needs; the pipeline's own are taken if it has none.
    """
    rest = [step for step in pipeline if not _loads(step, 'Annotations')]
    loading = [step for step in trained if _loads(step, 'Annotations')]
    loading = loading or [step for step in pipeline if _loads(step, 'Annotations')]
    images = [place for place, step in enumerate(rest, 1) if _loads(step, 'Image')]
    start = images[-1] if images else 0
    return [*rest[:start], *copy.deepcopy(loading), *rest[start:]]


def _loads(step: Mapping[str, Any], what: str) -> bool:
    """Tell whether a step of a pipeline loads images or annotations: LoadAnnotations, LoadCachedImage, and the like."""
    kind = type_name(step)
    return kind.startswith('Load') and what in kind
