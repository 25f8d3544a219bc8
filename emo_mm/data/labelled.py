"""Images with their labels as a training sees them, whatever files they come from: what every layout gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class LabelledBox:
    """A box of a class, in pixels of its image as it stands upright.

    Attributes:
        label: Index of its class.
        left: Left border.
        top: Upper border.
        width: Width.
        height: Height.
        outlines: The polygons around it, x and y of each in turn; none where it has no outline.
        crowd: Whether it is neither trained on nor counted as a mistake.
        runs: Its pixels as RLE of its image, where that is its outline.
    """

    label: int
    left: float
    top: float
    width: float
    height: float
    outlines: tuple[tuple[float, ...], ...] = ()
    crowd: bool = False
    runs: dict[str, Any] | None = None


@dataclass(frozen=True)
class BoxLabels:
    """The boxes of an image.

    Attributes:
        boxes: The boxes that a training reads; none for a background image.
        width: Width of the image as its labels tell it, in pixels; 0 if they do not.
        height: Height likewise.
    """

    boxes: tuple[LabelledBox, ...]
    width: float = 0
    height: float = 0


@dataclass(frozen=True)
class ObjectLabels(BoxLabels):
    """The objects of an image, each of which has an outline."""


@dataclass(frozen=True)
class MaskLabels:
    """The mask of an image.

    Attributes:
        read: Returns the label of each pixel, (height, width), uint8, 255 where it is ignored; raises ``UserError`` or
            ``OSError`` where it cannot be read.
    """

    read: Callable[[], NDArray[np.uint8]]


@dataclass(frozen=True)
class ClassLabel:
    """The class of an image.

    Attributes:
        label: Index of the class.
    """

    label: int


@dataclass(frozen=True)
class LabelledImage:
    """An image and its labels.

    Attributes:
        path: The file.
        labels: What is known of it.
    """

    path: Path
    labels: BoxLabels | MaskLabels | ClassLabel
