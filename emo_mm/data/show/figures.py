"""The numbers of a data set: classes, sizes of images, sizes of boxes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emo_mm.data.labelled import BoxLabels
from emo_mm.data.layouts.masks.pixels import IGNORED
from emo_mm.data.show.survey import Part, Survey

INPUTS = (256, 320, 512, 640)  # sides of squares that images are scaled to, in pixels
LIMITS = (8, 16, 32)  # sizes of boxes that are small, in pixels

FEW_IMAGES = 10
FEW_LABELS = 0.01  # of all labels of the part
_EVEN_SHARE = 0.25  # of what each of many classes would have if all had the same

Size = tuple[int, int]


@dataclass(frozen=True)
class ClassFigures:
    """How often the classes occur in a part, in images that can be trained on.

    Attributes:
        images: Images that have some of each class, shape (classes,).
        labels: Boxes, pixels or images of each class, shape (classes,).
        ignored: Pixels that are ignored.
    """

    images: NDArray[np.int64]
    labels: NDArray[np.int64]
    ignored: int

    @property
    def shares(self) -> NDArray[np.float64]:
        """Share of each class of the labels, shape (classes,); 0 where there are none."""
        return self.labels / max(int(self.labels.sum()), 1)

    @property
    def few(self) -> float:
        """Share of the labels below which a class has few; of many classes none has a large share."""
        return min(FEW_LABELS, _EVEN_SHARE / max(np.count_nonzero(self.labels), 1))


@dataclass(frozen=True)
class SizeFigures:
    """Sizes of images as they stand upright, of all that can be read.

    Attributes:
        frequent: The most frequent sizes (width, height) with the number of their images.
        different: Number of different sizes.
        smallest: The smallest by its area; None if no image can be read.
        largest: The largest likewise.
        shapes: Number of images by shape: ``landscape``, ``portrait``, ``square``.
        turned: Images that are turned or mirrored by their EXIF data.
    """

    frequent: tuple[tuple[Size, int], ...]
    different: int
    smallest: Size | None
    largest: Size | None
    shapes: Mapping[str, int]
    turned: int


@dataclass(frozen=True)
class BoxFigures:
    """Sizes of boxes: the root of the area, of those that are trained on.

    Attributes:
        sizes: In pixels, shape (boxes,).
        relative: As a part of the root of the area of the image, shape (boxes,); NaN where its size is not known.
        labels: Class of each, shape (boxes,).
        per_image: Boxes of each image, shape (images,).
        crowds: Boxes that are neither trained on nor counted as mistakes.
    """

    sizes: NDArray[np.float64]
    relative: NDArray[np.float64]
    labels: NDArray[np.int64]
    per_image: NDArray[np.int64]
    crowds: int

    @property
    def empty(self) -> int:
        """Images without a box."""
        return int((self.per_image == 0).sum())

    def below(self, side: int, limit: float) -> float:
        """Return the share of boxes smaller than a limit once images are scaled to a square; NaN without boxes."""
        sizes = self.relative[np.isfinite(self.relative)] * side
        return float((sizes < limit).mean()) if sizes.size else float('nan')


@dataclass(frozen=True)
class Figures:
    """The numbers of a data set.

    Attributes:
        classes: Those of the classes, by part.
        sizes: Those of the images of all parts.
        boxes: Those of the boxes, by part; empty for labels of another kind.
    """

    classes: Mapping[str, ClassFigures]
    sizes: SizeFigures
    boxes: Mapping[str, BoxFigures]

    def occurs(self, label: int) -> bool:
        """Tell whether any image has a class."""
        return any(of.images[label] for of in self.classes.values())

    @property
    def all_boxes(self) -> BoxFigures:
        """Those of the boxes of all parts."""
        return _joined(list(self.boxes.values()))


def figures_of(survey: Survey) -> Figures:
    """Return the numbers of a data set."""
    classes = {part.name: _of_classes(part, len(survey.classes)) for part in survey.parts}
    boxes = {part.name: _of_boxes(part) for part in survey.parts} if survey.kind.of_boxes else {}
    return Figures(classes, _of_sizes(survey), boxes)


def _of_classes(part: Part, number: int) -> ClassFigures:
    images, labels, ignored = np.zeros(number, np.int64), np.zeros(number, np.int64), 0
    for counts in part.of_sound(part.counts):
        for label, found in counts.items():
            if label < number:
                images[label] += 1
                labels[label] += found
            elif label == IGNORED:
                ignored += found
    return ClassFigures(images, labels, ignored)


def _of_sizes(survey: Survey) -> SizeFigures:
    facts = [one for part in survey.parts for one in part.facts if one.width]
    sizes = Counter((one.width, one.height) for one in facts)
    by_area = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    return SizeFigures(
        frequent=tuple(sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:10]),
        different=len(sizes),
        smallest=by_area[0] if by_area else None,
        largest=by_area[-1] if by_area else None,
        shapes={
            'landscape': sum(one.width > one.height for one in facts),
            'portrait': sum(one.width < one.height for one in facts),
            'square': sum(one.width == one.height for one in facts),
        },
        turned=sum(one.turned for one in facts),
    )


def _of_boxes(part: Part) -> BoxFigures:
    rows, per_image, crowds = [], [], 0
    for image in part.of_sound(part.images):
        labels: BoxLabels = image.labels
        trained = [box for box in labels.boxes if not box.crowd]
        per_image.append(len(trained))
        crowds += len(labels.boxes) - len(trained)
        area = labels.width * labels.height
        rows += [(box.width * box.height, area or np.nan, box.label) for box in trained]
    table = np.array(rows, np.float64).reshape(-1, 3)
    sizes = np.sqrt(table[:, 0])
    return BoxFigures(
        sizes, sizes / np.sqrt(table[:, 1]), table[:, 2].astype(np.int64), np.array(per_image, np.int64), crowds
    )


def _joined(parts: list[BoxFigures]) -> BoxFigures:
    return BoxFigures(
        np.concatenate([one.sizes for one in parts]),
        np.concatenate([one.relative for one in parts]),
        np.concatenate([one.labels for one in parts]),
        np.concatenate([one.per_image for one in parts]),
        sum(one.crowds for one in parts),
    )
