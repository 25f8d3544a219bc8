"""The outlines of an image, drawn into an index mask."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emo_mm.data.layouts.masks.convert import INDEX_MASKS, Conversion, MaskError, MaskSource
from emo_mm.data.outlines import Segmentation, area_of, decoded, encoded


@dataclass(frozen=True)
class Shape:
    """What is drawn of an object.

    Attributes:
        label: Its label.
        outline: Its outline.
        below: Whether it is drawn below all others, as crowds are.
    """

    label: int
    outline: Segmentation
    below: bool = False


@dataclass(frozen=True)
class Drawing:
    """The outlines of an image.

    Attributes:
        image: The image, of which faults are told.
        size: Its width and height, as its label file says.
        shapes: Its outlines, in the order in which they are drawn.
        by_area: Whether larger ones are drawn before smaller ones instead.
        fault: Kind and details of what keeps it from being drawn; None if nothing does.
        how: What becomes of the labels afterwards.
    """

    image: Path
    size: tuple[int, int]
    shapes: Sequence[Shape]
    by_area: bool
    fault: tuple[str, str] | None = None
    how: Conversion = INDEX_MASKS

    def source(self) -> MaskSource:
        """Return it as what an index mask is made from."""
        known = (self.size, tuple(self.shapes), self.by_area, self.fault)
        digest = hashlib.sha256(repr(known).encode(errors='surrogatepass')).digest()
        version = int.from_bytes(digest[:6], 'big'), int.from_bytes(digest[6:12], 'big')
        return MaskSource(str(self.image), version, self.labels)

    def labels(self) -> np.ndarray:
        """Return the labels, shape (height, width), uint8.

        Raises:
            MaskError: If there is a fault.
        """
        if self.fault is not None:
            raise MaskError(self.image, *self.fault)
        width, height = self.size
        found = [(shape, encoded(shape.outline, width, height)) for shape in self.shapes]
        layers = [(shape, rle, area_of(rle)) for shape, rle in found if rle is not None]
        # stable: of outlines of one area the later one stays on top
        layers.sort(key=lambda layer: (not layer[0].below, -layer[2] if self.by_area else 0))
        labels = np.zeros((height, width), dtype=np.uint8)
        for shape, rle, _ in layers:
            labels[decoded(rle)] = shape.label
        return self.how.moved(labels)
