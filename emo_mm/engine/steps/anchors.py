"""Anchors of a detector: how many of the user's boxes they can find, and better ones where that is asked for."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emo_mm.config.edits import Change, Part
from emo_mm.config.parts import type_name
from emo_mm.config.pipeline import Resizing, resizing_of
from emo_mm.config.view import ConfigView, inner_parts
from emo_mm.data.layouts.base import Boxes
from emo_mm.data.training_boxes import even_choice, has_own_classes, training_boxes
from emo_mm.engine.options import TrainOptions
from emo_mm.errors import UserError

FOUND = 0.5  # IoU with an anchor from which a box counts as found: what detectors train an anchor on
POOR, POOR_CLASS = 0.8, 0.5  # shares found, of all boxes and of a class, below which other anchors are worth a hint
_SEARCHED = 1000  # boxes that the search looks at
_FACTORS = (0.7, 0.85, 0.93, 1.08, 1.18, 1.4)  # steps of the search
_ROUNDS = 6
_FEW = 10  # boxes of a class below which its share says nothing
_SMALLEST = 4.0  # pixels of an anchor
_HINT = '; --anchors auto chooses them by your boxes, gfl_emo_1m_demo needs none'


def anchors(view: ConfigView, options: TrainOptions) -> Change:
    """Tell which share of the boxes the anchors can find, and choose other anchors if asked to.

    Raises:
        UserError: If anchors are asked for and there are none to choose, or no boxes to choose them by.
    """
    part, resizing = generator_part(view), resizing_of(view)
    if part is None or resizing is None or _by_distance(view):
        if options.anchors is None:
            return Change()
        raise UserError(f'--anchors {options.anchors}: {_why_none(view, part)}; leave the flag out')
    boxes = training_boxes(view)
    if not len(boxes):
        if options.anchors is None:
            return Change()
        raise UserError(f'--anchors {options.anchors}: no boxes of the training data are known to choose anchors by')
    before = best_ious(view, part.node, boxes, resizing)
    if before is None:
        if options.anchors is None:
            return Change()
        raise UserError(
            f'--anchors {options.anchors}: {type_name(part.node)} has no sizes to choose; leave the flag out'
        )
    if options.anchors is None:
        poor = has_own_classes(view) and ((before >= FOUND).mean() < POOR or _least(before, boxes)[1] < POOR_CLASS)
        hint = (
            '; --anchors auto chooses them by your boxes, gfl_emo_1m_demo needs none'
            if poor and type_name(part.node) in _STRUCTURES
            else ''
        )
        return Change(lines=(f'anchors: {_recall(before, boxes, resizing)}{hint}',))
    chosen = chosen_anchors(view, part, boxes, resizing)
    after = best_ious(view, {**part.node, **chosen}, boxes, resizing)
    assert after is not None  # the same generator with other sizes
    if chosen == {key: part.node.get(key) for key in chosen}:
        return Change(lines=(f'anchors: {_recall(before, boxes, resizing)}; no better ones were found, so they stay',))
    line = f'anchors chosen by your boxes: {_recall(after, boxes, resizing)}; before, {_shares(before, boxes)}'
    return Change(part.edit(**chosen), (line,))


def _recall(ious: NDArray[np.float64], boxes: Boxes, resizing: Resizing) -> str:
    return f'at {resizing}, {_shares(ious, boxes, " of the boxes")} have an anchor with IoU >= {FOUND}'


def _shares(ious: NDArray[np.float64], boxes: Boxes, words: str = '') -> str:
    """Return the share of boxes that are found, and that of the class of which the least are."""
    name, least = _least(ious, boxes)
    every = (ious >= FOUND).mean()
    return f'{every:.0%}{words} ({least:.0%} of {name})' if least < every - 0.05 else f'{every:.0%}{words}'


def _least(ious: NDArray[np.float64], boxes: Boxes) -> tuple[str, float]:
    """Return the class of whose boxes the smallest share is found, and that share; not of a class of a few boxes."""
    names, numbers = np.unique(boxes.classes, return_counts=True)
    enough = names[numbers >= min(_FEW, numbers.max())]
    shares = {str(name): float((ious[boxes.classes == name] >= FOUND).mean()) for name in enough}
    return min(shares.items(), key=lambda row: row[1])


def _by_distance(view: ConfigView) -> bool:
    """Tell whether boxes are given to the nearest anchors, whatever their sizes."""
    train = (view.cfg.get('model') or {}).get('train_cfg') or {}
    return any(type_name(part.node) == 'ATSSAssigner' for part in inner_parts(train, 'model.train_cfg'))


def _why_none(view: ConfigView, part: Part | None) -> str:
    """Say why no anchors can be chosen."""
    if part is None:
        return 'no part of the model has an anchor_generator'
    if _by_distance(view):
        return 'ATSSAssigner gives boxes to the nearest anchors, whatever their sizes'
    return 'no step of the pipeline resizes to a size'


def generator_part(view: ConfigView) -> Part | None:
    """Return the anchor generator of a detector; None if it has none."""
    model = view.cfg.get('model') or {}
    found = (part for part in inner_parts(model, 'model') if part.place.endswith('.anchor_generator'))
    return next(found, None)


# --- what the anchors of a config find
def best_ious(
    view: ConfigView, node: Mapping[str, Any], boxes: Boxes, resizing: Resizing
) -> NDArray[np.float64] | None:
    """Return the IoU of each box with the best of all anchors, at their places on the maps.

    Args:
        view: The config.
        node: The anchor generator.
        boxes: The boxes in pixels of their images.
        resizing: How images come to the size of the network.

    Returns:
        The IoUs, (N,); None if the generator has no anchors of the usual kind.

    Raises:
        UserError: If the generator cannot be built.
    """
    generator = _generator(view, node)
    levels = getattr(generator, 'base_anchors', None)
    if levels is None or not hasattr(generator, 'strides'):
        return None
    factors = resizing.factors(boxes.images)
    places = boxes.places * np.concatenate([factors, factors], axis=1)
    strides = np.array([np.broadcast_to(stride, 2) for stride in generator.strides], dtype=np.float64)
    best: NDArray[np.float64] = np.zeros(len(places))
    for anchors_of_level, stride, cells in zip(levels, strides, _cells(boxes.images * factors, strides), strict=True):
        ious = _iou_with_nearest(places, anchors_of_level.double().numpy()[:, None], stride, cells)
        best = np.maximum(best, ious.max(axis=0))
    return best


def _cells(inputs: NDArray[np.float64], strides: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Return how many cells each map has for inputs of some widths and heights: each halves the one before it.

    Strides may be rounded, as 107 for a third of 320, so it is not the input that is divided by each.
    """
    maps = [np.ceil(inputs.round() / strides[0])]
    for before, stride in itertools.pairwise(strides):
        maps.append(np.ceil(maps[-1] / np.maximum(np.ceil(stride / before - 0.25), 1)))
    return maps


def _iou_with_nearest(
    places: NDArray[np.float64], anchor: NDArray[np.float64], stride: NDArray[np.float64], cells: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the IoU of boxes with anchors (A, 1, 4) at the nearest cell, (A, N): no other cell has a higher one."""
    size, centre = anchor[..., 2:] - anchor[..., :2], (anchor[..., :2] + anchor[..., 2:]) / 2
    middle = places[:, :2] + places[:, 2:] / 2
    cell = np.clip(((middle - centre) / stride).round(), 0, cells - 1)
    apart = np.abs(middle - (centre + cell * stride))
    sizes = places[:, 2:]
    overlap = np.clip((size + sizes) / 2 - apart, 0, np.minimum(size, sizes)).prod(axis=-1)
    return overlap / (sizes.prod(axis=-1) + size.prod(axis=-1) - overlap)


def _generator(view: ConfigView, node: Mapping[str, Any]) -> Any:
    from mmengine.registry import TASK_UTILS

    try:
        with TASK_UTILS.switch_scope_and_registry(view.task.scope) as registry:
            return registry.build(dict(node))
    except (TypeError, ValueError, AssertionError, KeyError) as error:
        raise UserError(f'{view.name}: the anchor generator cannot be built: {error}') from error


# --- other anchors
@dataclass(frozen=True)
class Structure:
    """How the anchors of a generator are set by a row of sizes, so that each cell keeps as many.

    Attributes:
        sizes: Returns the sizes that a generator has, in pixels, ascending.
        settings: Returns the settings that give a generator other sizes.
        shapes: Returns the settings that fit its ratios to boxes, of which widths and heights (N, 2) are given.
    """

    sizes: Callable[[Any], NDArray[np.float64]]
    settings: Callable[[Any, NDArray[np.float64]], dict[str, Any]]
    shapes: Callable[[Any, NDArray[np.float64]], dict[str, Any]]


def _ssd_sizes(generator: Any) -> NDArray[np.float64]:
    last = generator.base_sizes[-1] * float(generator.scales[-1][-1]) ** 2
    return np.array([*generator.base_sizes, last], dtype=np.float64)


def _ssd_settings(generator: Any, sizes: NDArray[np.float64]) -> dict[str, Any]:
    # each level has anchors of its own size, and one between it and the next
    rounded = [round(float(size), 1) for size in sizes]
    return {'min_sizes': rounded[:-1], 'max_sizes': rounded[1:]}


def _plain_sizes(generator: Any) -> NDArray[np.float64]:
    return np.array(generator.base_sizes, dtype=np.float64) * _middle_scale(generator)


def _plain_settings(generator: Any, sizes: NDArray[np.float64]) -> dict[str, Any]:
    return {'base_sizes': [round(float(size), 2) for size in sizes / _middle_scale(generator)]}


def _plain_shapes(generator: Any, sides: NDArray[np.float64]) -> dict[str, Any]:
    ratios = np.exp(k_means(np.log(sides[:, 1] / sides[:, 0]), len(generator.ratios)))
    return {'ratios': [round(float(ratio), 3) for ratio in ratios]}


def _middle_scale(generator: Any) -> float:
    """Return the size of the anchors of a generator as a multiple of its base sizes."""
    return float(np.exp(np.log(generator.scales.double().numpy()).mean()))


_STRUCTURES = {
    'SSDAnchorGenerator': Structure(_ssd_sizes, _ssd_settings, lambda generator, sides: {}),
    'AnchorGenerator': Structure(_plain_sizes, _plain_settings, _plain_shapes),
}


def chosen_anchors(view: ConfigView, part: Part, boxes: Boxes, resizing: Resizing) -> dict[str, Any]:
    """Return the settings of a generator whose anchors suit some boxes best.

    A search from its own anchors and from the k-means of the boxes. The number of anchors per cell stays, and with it
    the shapes of the heads. The same boxes give the same anchors.

    Raises:
        UserError: If the generator is of a kind whose anchors cannot be chosen.
    """
    kind = type_name(part.node)
    if kind not in _STRUCTURES:
        raise UserError(f'--anchors auto: {kind} is not one of {", ".join(_STRUCTURES)}; set its anchors yourself')
    structure, generator = _STRUCTURES[kind], _generator(view, part.node)
    sample = _balanced(boxes)
    sides = sample.places[:, 2:] * resizing.factors(sample.images)
    own = structure.sizes(generator)
    largest = float(max(resizing.scale))
    results = []
    fitted = structure.shapes(generator, sides)
    for shapes in ({}, fitted) if fitted else ({},):

        def settings(sizes: NDArray[np.float64], shapes: dict[str, Any] = shapes) -> dict[str, Any]:
            return {**shapes, **structure.settings(generator, sizes)}

        def score(sizes: NDArray[np.float64], settings: Callable[..., dict[str, Any]] = settings) -> float:
            ious = best_ious(view, {**part.node, **settings(sizes)}, sample, resizing)
            return 0.0 if ious is None else _score(ious)

        for start in (own, np.exp(k_means(np.log(sides).mean(axis=1), len(own)))):
            found, sizes = _climb(_ascending(start, largest), score, largest)
            results.append((found, settings(sizes)))
    return max(results, key=lambda result: result[0])[1]


def _balanced(boxes: Boxes) -> Boxes:
    """Return some of the boxes, of each class as many where there are so many: a rare class counts like the others."""
    names = np.unique(boxes.classes)
    of_each = [np.flatnonzero(boxes.classes == name) for name in names]
    most = -(-_SEARCHED // len(names))
    return boxes.at(np.concatenate([found[even_choice(len(found), most)] for found in of_each]))


def _score(ious: NDArray[np.float64]) -> float:
    """Return how well anchors suit boxes: the share found, and how close they are."""
    return float((ious >= FOUND).mean() + ious.mean())


def _climb(
    sizes: NDArray[np.float64], score: Callable[[NDArray[np.float64]], float], largest: float
) -> tuple[float, NDArray[np.float64]]:
    """Change one size after another for as long as that raises the score; return the score and the sizes."""
    best = score(sizes)
    for _ in range(_ROUNDS):
        before = best
        for index, factor in itertools.product(range(len(sizes)), _FACTORS):
            other = sizes.copy()
            other[index] *= factor
            other = _ascending(other, largest)
            if (found := score(other)) > best:
                best, sizes = found, other
        if best == before:
            break
    return best, sizes


def _ascending(sizes: NDArray[np.float64], largest: float) -> NDArray[np.float64]:
    """Return sizes in order, each a little larger than the one before, between the smallest and the largest."""
    ordered = np.sort(np.clip(sizes, _SMALLEST, largest))
    for index in range(1, len(ordered)):
        ordered[index] = max(ordered[index], ordered[index - 1] * 1.05)
    return ordered


def k_means(values: NDArray[np.float64], number: int) -> NDArray[np.float64]:
    """Return the centres of so many clusters of numbers, ascending; the same numbers give the same centres."""
    centres = np.quantile(values, (np.arange(number) + 0.5) / number)
    for _ in range(50):
        nearest = np.abs(values[:, None] - centres).argmin(axis=1)
        moved = [
            values[nearest == index].mean() if (nearest == index).any() else centres[index] for index in range(number)
        ]
        if np.array_equal(moved, centres):
            break
        centres = np.array(moved)
    return np.sort(centres)
