"""Rare classes: weights in the loss, and images that are repeated."""

from __future__ import annotations

import inspect
import math
from collections import Counter
from pkgutil import resolve_name
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emo_mm.config.edits import Change, Edit, Part
from emo_mm.config.parts import type_name
from emo_mm.config.view import ConfigView, inner_parts
from emo_mm.data.classes import image_classes
from emo_mm.engine.options import TrainOptions
from emo_mm.errors import UserError


def class_weights(view: ConfigView, options: TrainOptions) -> Change:
    """Weight the loss of each class by how rare it is in the training data, if asked for.

    Raises:
        UserError: If the task has no such loss, no loss of the model takes weights, or a class never occurs.
    """
    if options.class_weights is None:
        return Change()
    counting = view.task.class_counts
    if counting is None:
        raise UserError(f'--class-weights: not for {view.task.noun}; --balance repeats images with rare classes')
    losses = _weighted_losses(view)
    if not losses:
        raise UserError(f'--class-weights: no loss of {view.name} takes class_weight; use CrossEntropyLoss')
    number, names = _classes(view)
    dataset = view.only_dataset('train')
    counts = resolve_name(counting)(view, dataset, number)
    if not counts.sum():
        raise UserError(f'{view.name}: --class-weights: the training data hold no label of the {number} classes')
    weights = balanced_weights(counts)
    shown = ', '.join(f'{name} {weight:g}' for name, weight in zip(names, weights, strict=True))
    short = shown if len(weights) <= 20 else f'from {min(weights):g} to {max(weights):g}'
    edits = tuple(edit for loss in losses for edit in _weighted(view, loss, weights))
    return Change(edits, (f'class weights: {short}',))


def balanced_weights(counts: NDArray[np.int64]) -> list[float]:
    """Return a weight for each class: the rarer, the higher, as ENet has it: 1 / log(1.02 + share).

    They are scaled so that the weight of a pixel or image is 1 on average, and the loss keeps its size.
    """
    shares = counts / counts.sum()
    weights = 1 / np.log(1.02 + shares)
    return [round(float(weight), 4) for weight in weights / (shares * weights).sum()]


def _classes(view: ConfigView) -> tuple[int, tuple[str, ...]]:
    """Return the number of classes of the heads, and their names."""
    from emo_mm.config.parts import dataset_classes

    number = max((part.node['num_classes'] for part in view.counting), default=0)
    if not number:
        raise UserError(f'{view.name}: --class-weights: no part of the model has num_classes')
    names = dataset_classes(view.only_dataset('train').node, view.task.scope) or ()
    return number, names if len(names) == number else tuple(map(str, range(number)))


def _weighted_losses(view: ConfigView) -> list[Part]:
    """Return the losses on classes in a model that take a weight for each."""
    from mmengine.registry import MODELS

    found = []
    for part in inner_parts(view.cfg.model, 'model'):
        *_, key, last = f'.{part.place}'.split('.')
        if 'loss' not in (key if last.isdecimal() else last) or not type_name(part.node):
            continue
        kind: Any = part.node['type']
        if isinstance(kind, str):
            kind = MODELS.get(kind if '.' in kind else f'{view.task.scope}.{kind}')
        if kind is not None and 'class_weight' in inspect.signature(kind).parameters:
            found.append(part)
    return found


def _weighted(view: ConfigView, loss: Part, weights: list[float]) -> tuple[Edit, ...]:
    """Return the edits that give a loss its weights, and a type that weights right where the toolbox's does not."""
    kind = view.task.weighted_losses.get(type_name(loss.node))
    return loss.edit(class_weight=weights, **({} if kind is None else {'type': kind}))


def balance(view: ConfigView, options: TrainOptions) -> Change:
    """Repeat images with rare classes, if asked for.

    Raises:
        UserError: If the data set does not tell which classes an image has, or all classes are equally frequent.
    """
    if not options.balance:
        return Change()
    dataset = view.only_dataset('train')
    classes = image_classes(view, dataset)
    frequency = Counter(label for labels in classes for label in labels)
    if not frequency:
        raise UserError(f'{view.name}: --balance: no image of the training data has a class')
    # as often as half of the most frequent class: nothing is repeated where classes differ less than twofold
    threshold = round(max(frequency.values()) / len(classes) / 2, 4)
    repeats = {label: max(1.0, math.sqrt(threshold * len(classes) / times)) for label, times in frequency.items()}
    total = sum(math.ceil(max((repeats[label] for label in labels), default=1.0)) for labels in classes)
    if total == len(classes):
        return Change(lines=('balance: no class is rarer than half of the most frequent one, so no image is repeated',))
    wrapped = dict(type='ClassBalancedDataset', oversample_thr=threshold, dataset=dict(dataset.node))
    line = f'balance: {len(classes)} images are trained on as {total}, with rare classes repeated'
    return Change((Edit(dataset.place, wrapped),), (line,))
