"""The boxes that a training sees."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from emo_mm.config.view import ConfigView
from emo_mm.data.checks import readings_of
from emo_mm.data.layouts import layout_of_reading
from emo_mm.data.layouts.base import Boxes

MOST = 20_000  # more boxes tell nothing new of their sizes


def training_boxes(view: ConfigView) -> Boxes:
    """Return the boxes that the training data sets of a config hold, of many an even choice.

    Args:
        view: The config, with the data in it.

    Returns:
        At most ``MOST`` boxes, in the order of their files; none where no layout knows boxes.

    Raises:
        UserError: If an annotation file cannot be read.
    """
    found = []
    for reading in readings_of(view, [view.splits['train']]):
        layout = layout_of_reading(reading)
        boxes = None if layout is None else layout.boxes(reading)
        if boxes is not None:
            found.append(boxes)
    if not found:
        return Boxes(np.zeros((0, 4)), np.zeros((0, 2)), np.zeros(0, dtype=np.str_))
    joined = Boxes(*(np.concatenate([getattr(boxes, one.name) for boxes in found]) for one in fields(Boxes)))
    return joined.at(even_choice(len(joined), MOST))


def has_own_classes(view: ConfigView) -> bool:
    """Tell whether the training data are the user's own: published sets declare their classes by their type.

    Advice to change a recipe is for own data; on published data the recipe is what the figures were made with.
    """
    return any((part.node.get('metainfo') or {}).get('classes') for part in view.splits['train'].datasets)


def even_choice(number: int, most: int) -> NDArray[np.int64]:
    """Return the indices of at most so many of a number of things, evenly spread."""
    return np.linspace(0, max(number - 1, 0), min(number, most)).round().astype(np.int64)
