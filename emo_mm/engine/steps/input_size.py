"""The size of the network's input: as asked for, and whether the user's boxes are still seen at it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from emo_mm.config.edits import Change, Edit
from emo_mm.config.parts import type_name
from emo_mm.config.pipeline import Resizing, input_side, resized_pipelines, resizing_of, scaled
from emo_mm.config.view import ConfigView, inner_parts
from emo_mm.data.training_boxes import has_own_classes, training_boxes
from emo_mm.engine.options import TrainOptions
from emo_mm.engine.steps.anchors import generator_part
from emo_mm.errors import UserError

TINY = 4  # pixels below which nothing of an object is left
_MANY_IN_CELLS, _MANY_TINY = 0.1, 0.01  # shares of boxes that are worth a line
_FINE, _FINE_CELL = 'gfl-p2_emo_1m_demo', 4  # the recipe for small objects
_LARGER = (1.5, 2, 3, 4)  # inputs to propose
# settings beside the pipelines that give a size in pixels: place -> keys
_OF_BATCHES = {'BatchFixedSizePad': 'size', 'BatchSyncRandomResize': 'random_size_range'}
_OF_THE_MODEL = {'model.data_preprocessor': ('size',), 'model.test_cfg': ('crop_size', 'stride')}


def input_size(view: ConfigView, options: TrainOptions) -> Change:
    """Scale pipelines, crops and the anchors of SSD to another input, if asked for.

    Raises:
        UserError: If a step of a pipeline has a size that cannot be scaled; the message names it.
    """
    if options.input is None:
        return Change()
    old, new = input_side(view), options.input
    factor = new / old
    edits = [*resized_pipelines(view, factor), *_model_sizes(view, factor), *_ssd_anchors(view, old, new)]
    line = f'input: {old} -> {new} pixels; an image takes about {factor**2:.2g} times the time and memory'
    return Change(tuple(edits), (line,))


def _model_sizes(view: ConfigView, factor: float) -> list[Edit]:
    """Return the edits of sizes that the model pads, crops or slides by."""
    edits: list[Edit] = []
    for place, keys in _OF_THE_MODEL.items():
        part = view.part(place)
        given = {key: part.node[key] for key in keys if part.node.get(key) is not None}
        edits += part.edit(**{key: scaled(value, factor) for key, value in given.items()})
    for part in inner_parts(view.part('model.data_preprocessor').node, 'model.data_preprocessor'):
        key = _OF_BATCHES.get(type_name(part.node), '')
        if part.node.get(key) is not None:
            edits += part.edit(**{key: scaled(part.node[key], factor)})
    return edits


def _ssd_anchors(view: ConfigView, old: int, new: int) -> tuple[Edit, ...]:
    """Return the edits that scale the anchors of SSD, which are shares of the input, and its strides likewise."""
    part = generator_part(view)
    if part is None or type_name(part.node) != 'SSDAnchorGenerator':
        return ()
    sizes = {key: scaled(part.node[key], new / old) for key in ('min_sizes', 'max_sizes') if part.node.get(key)}
    strides = list(part.node['strides'])
    if not sizes:
        raise UserError(f'--input: {part.place} has no min_sizes and max_sizes to scale; set them with --cfg-options')
    follow = strides == _strides(strides[0], old, len(strides))
    return part.edit(**sizes, **({'strides': _strides(strides[0], new, len(strides))} if follow else {}))


def _strides(first: int, side: int, levels: int) -> list[int]:
    """Return how many pixels lie between the cells of maps of which each halves the one before."""
    cells = -(-side // first)
    strides = []
    for level in range(levels):
        strides.append(first * 2**level if level < 2 and cells > 1 else round(side / cells))
        cells = -(-cells // 2)
    return strides


def small_boxes(view: ConfigView, options: TrainOptions) -> Change:
    """Tell which share of the boxes is hardly seen at the size of the input, and which input would see more."""
    resizing, generator = resizing_of(view), generator_part(view)
    if resizing is None or generator is None or not len(boxes := training_boxes(view)):
        return Change()
    cell = int(np.min(generator.node.get('strides') or 1))
    sides = boxes.places[:, 2:] * resizing.factors(boxes.images)
    below, tiny = _shares(sides, cell)
    if below < _MANY_IN_CELLS and tiny < _MANY_TINY:
        return Change()
    told = f'{below:.0%} of the boxes are smaller than a cell of the first map ({cell} pixels) at {resizing}'
    told += f', {tiny:.1%} smaller than {TINY} pixels' if tiny else ''
    return Change(lines=(f'{told}: such objects are hardly found{_proposal(view, sides, cell, resizing)}',))


def _shares(sides: NDArray[np.float64], cell: int) -> tuple[float, float]:
    """Return the share of boxes smaller than a cell, by their area, and of those with a side of hardly a pixel."""
    return float((sides.prod(axis=1) < cell**2).mean()), float((sides.min(axis=1) < TINY).mean())


def _proposal(view: ConfigView, sides: NDArray[np.float64], cell: int, resizing: Resizing) -> str:
    """Return words on a recipe with smaller cells, and the smallest input of some that sees nearly all boxes."""
    if not has_own_classes(view):
        return ''
    words = f'; {_FINE} has cells of {_FINE_CELL} pixels' if cell > _FINE_CELL else ''
    try:
        old = input_side(view)
        resized_pipelines(view, 1.0)
    except UserError:  # --input cannot change this recipe
        return words
    for factor in _LARGER:
        side = round(old * factor / 32) * 32
        below, tiny = _shares(sides * side / old, cell)
        if below < _MANY_IN_CELLS and tiny < _MANY_TINY:
            break
    return f'{words}; --input {side} would leave {below:.0%}'
