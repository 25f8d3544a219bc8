"""Images that are there twice: the same file, or a picture that looks the same.

The look of an image is the brightness and colour of a few fields. Two pictures look the same where these go up and down
together: in a copy that was scaled or compressed they do (correlations of 0.997 and more on real photographs), mostly
in one that was brightened too; in another picture of the same things they do not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emo_mm.data.show.files import LOOK, SIDE, FileFacts

SAME = 0.99  # correlation of the looks from which on pictures look the same
_FLAT = 3.0  # deviation of the brightness below which there is nothing to see
_STEPS = 8
_BLOCK = 256  # images that are compared with the others at once


@dataclass(frozen=True)
class Twins:
    """For each image, another one of each part that is the same.

    Attributes:
        of: Index of such an image of each part, shape (images, parts); -1 where there is none.
        identical: Whether it is the same file, byte for byte, shape (images, parts).
    """

    of: NDArray[np.int64]
    identical: NDArray[np.bool_]

    def pairs(self, part: int, other: int, part_of: NDArray[np.int64], identical: bool) -> list[tuple[int, int]]:
        """Return the images of one part that have a twin in another, or in the same one, with it.

        Args:
            part: The part whose images are asked for.
            other: The part of the twins.
            part_of: Part of each image, shape (images,).
            identical: Whether to return those of the same bytes, or those that only look the same.
        """
        found = (part_of == part) & (self.of[:, other] >= 0) & (self.identical[:, other] == identical)
        return [(int(index), int(self.of[index, other])) for index in np.flatnonzero(found)]


def find_twins(facts: Sequence[FileFacts], part_of: NDArray[np.int64], parts: int) -> Twins:
    """Return the twins of images.

    Args:
        facts: What is known of each file.
        part_of: Part of each image, shape (images,).
        parts: Number of parts.
    """
    twins = Twins(np.full((len(facts), parts), -1, np.int64), np.zeros((len(facts), parts), bool))
    _same_bytes(facts, part_of, twins)
    _same_look(facts, part_of, twins)
    return twins


def _same_bytes(facts: Sequence[FileFacts], part_of: NDArray[np.int64], twins: Twins) -> None:
    same: dict[str, list[int]] = {}
    for index, one in enumerate(facts):
        if one.digest:
            same.setdefault(one.digest, []).append(index)
    for group in same.values():
        for index in group if len(group) > 1 else ():
            for part in {int(part_of[other]) for other in group}:
                other = next((other for other in group if other != index and part_of[other] == part), -1)
                twins.of[index, part], twins.identical[index, part] = other, other >= 0


@dataclass(frozen=True)
class _Looks:
    """The images that have something to see, ordered so that those that look the same are near each other.

    Attributes:
        images: Their indices, (n,).
        units: Their looks, without the mean of the brightness and of length 1, (n, fields).
        places: Where they lie along the axis that they differ most on, (n,), ascending.
    """

    images: NDArray[np.int64]
    units: NDArray[np.float32]
    places: NDArray[np.float32]


def _looks(facts: Sequence[FileFacts]) -> _Looks:
    images = np.array([index for index, one in enumerate(facts) if one.look is not None], np.int64)
    units = np.array([one.look for one in facts if one.look is not None], np.float32).reshape(len(images), LOOK)
    brightness = units[:, : SIDE * SIDE]
    brightness -= brightness.mean(axis=1, keepdims=True)
    seen = brightness.std(axis=1) > _FLAT
    images, units = images[seen], units[seen]
    units /= np.sqrt(np.einsum('ij,ij->i', units, units))[:, None]
    places = units @ _widest(units)
    order = np.argsort(places, kind='stable')
    return _Looks(images[order], units[order], places[order])


def _widest(units: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return an axis, of length 1, near the one along which looks differ most; found by power iteration."""
    axis = np.linspace(-1, 1, units.shape[1], dtype=np.float32)  # bright above, dark below, as many photographs
    for _ in range(_STEPS):
        axis = units.T @ (units @ axis) + np.float32(1e-6) * axis
        axis /= np.linalg.norm(axis)
    return axis


def _same_look(facts: Sequence[FileFacts], part_of: NDArray[np.int64], twins: Twins) -> None:
    looks = _looks(facts)
    owners = part_of[looks.images]
    for rows, window, alike in _compared(looks):
        for part in np.unique(owners):
            those = np.where(owners[window] == part, alike, -1)
            best = those.argmax(axis=1)
            images = looks.images[rows]
            found = (those[np.arange(len(rows)), best] >= SAME) & (twins.of[images, part] < 0)
            twins.of[images[found], part] = looks.images[window[best[found]]]


def _compared(looks: _Looks) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]]:
    """Yield rows of images, the images that may look the same as these, and their correlations; -1 with itself."""
    # looks whose correlation is c lie sqrt(2 - 2c) apart, and no further along any axis
    reach = np.sqrt(2 - 2 * SAME) + 1e-3
    for start in range(0, len(looks.images), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(looks.images)))
        ends = (looks.places[rows[0]] - reach, looks.places[rows[-1]] + reach)
        first, last = np.searchsorted(looks.places, ends, side='left')
        window = np.arange(first, last)
        alike = looks.units[rows] @ looks.units[window].T
        alike[np.arange(len(rows)), rows - first] = -1
        yield rows, window, alike
