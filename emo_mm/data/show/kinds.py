"""What differs between the kinds of labels: a row each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from emo_mm.data.labelled import BoxLabels, ClassLabel, MaskLabels, ObjectLabels
from emo_mm.data.layouts.masks.pixels import IGNORED

Counts = Mapping[int, int]
"""Label of a class to how much of it an image has; the key ``IGNORED`` counts ignored pixels."""


@dataclass(frozen=True)
class Kind:
    """A kind of labels.

    Attributes:
        one: What is counted: "box".
        many: The same of several: "boxes".
        count: Returns what an image has of each class, given its labels.
        in_pixels: Whether shares of pixels say more than their numbers.
        of_images: Whether each image has one label, so that images are what is counted.
        of_boxes: Whether each label has a box.
    """

    one: str
    many: str
    count: Callable[[Any], Counts]
    in_pixels: bool = False
    of_images: bool = False
    of_boxes: bool = False

    @property
    def a_label(self) -> str:
        """One of them, with its article."""
        return f'{"an" if self.one[0] in "aeiou" else "a"} {self.one}'


def _boxes(labels: BoxLabels) -> Counts:
    return Counter(box.label for box in labels.boxes if not box.crowd)


def _pixels(labels: MaskLabels) -> Counts:
    numbers = np.bincount(labels.read().ravel(), minlength=IGNORED + 1)  # (H, W) -> (256,)
    return {int(label): int(numbers[label]) for label in np.flatnonzero(numbers)}


def _class(labels: ClassLabel) -> Counts:
    return {labels.label: 1}


KINDS: Mapping[type, Kind] = {
    BoxLabels: Kind('box', 'boxes', _boxes, of_boxes=True),
    ObjectLabels: Kind('object', 'objects', _boxes, of_boxes=True),
    MaskLabels: Kind('pixel', 'pixels', _pixels, in_pixels=True),
    ClassLabel: Kind('image', 'images', _class, of_images=True),
}
