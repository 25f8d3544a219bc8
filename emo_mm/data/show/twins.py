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
_COARSE = 8  # fields to a side by which images are told apart that differ much
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
    same: dict[str, dict[int, list[int]]] = {}
    for index, one in enumerate(facts):
        if one.digest:
            same.setdefault(one.digest, {}).setdefault(int(part_of[index]), []).append(index)
    for group in same.values():
        for index in (index for members in group.values() for index in members):
            for part, members in group.items():
                other = next((other for other in members[:2] if other != index), -1)
                twins.of[index, part], twins.identical[index, part] = other, other >= 0


@dataclass(frozen=True)
class _Looks:
    """The images that have something to see.

    Attributes:
        images: Their indices, (n,).
        units: Their looks, without the mean of the brightness and of length 1, (n, LOOK).
        coarse: The same in fewer and larger fields of brightness, on a scale that keeps distances as they are or makes
            them smaller, (n, fields).
    """

    images: NDArray[np.int64]
    units: NDArray[np.float32]
    coarse: NDArray[np.float32]


def _looks(facts: Sequence[FileFacts]) -> _Looks:
    images = np.array([index for index, one in enumerate(facts) if one.look is not None], np.int64)
    units = np.array([one.look for one in facts if one.look is not None], np.float32).reshape(len(images), LOOK)
    brightness = units[:, : SIDE * SIDE]
    brightness -= brightness.mean(axis=1, keepdims=True)
    seen = brightness.std(axis=1) > _FLAT
    images, units = images[seen], units[seen]
    units /= np.sqrt(np.einsum('ij,ij->i', units, units))[:, None]
    step = SIDE // _COARSE
    fields = units[:, : SIDE * SIDE].reshape(-1, _COARSE, step, _COARSE, step)
    return _Looks(images, units, fields.sum(axis=(2, 4)).reshape(-1, _COARSE**2) / step)


def _same_look(facts: Sequence[FileFacts], part_of: NDArray[np.int64], twins: Twins) -> None:
    looks = _looks(facts)
    for rows, columns, alike in _near(looks):
        images, others = looks.images[rows], looks.images[columns]
        for part in np.unique(part_of[others]):
            those = np.where(part_of[others] == part, alike, -1)
            best = those.argmax(axis=1)
            found = (those[np.arange(len(rows)), best] >= SAME) & (twins.of[images, part] < 0)
            twins.of[images[found], part] = others[best[found]]


def _near(looks: _Looks) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]]:
    """Yield images, those that may look the same as these, and their correlations; -1 with itself."""
    half = (looks.coarse**2).sum(axis=1, keepdims=True) / 2
    one = np.ones_like(half)
    left, right = np.hstack([looks.coarse, half, one]), np.hstack([looks.coarse, -one, -half])
    # Looks whose correlation is c lie sqrt(2 - 2c) apart. The product is half the square of the distance, below zero.
    nearest = -(1 - SAME) - 1e-4
    for start in range(0, len(left), _BLOCK):
        near = left[start : start + _BLOCK] @ right.T >= nearest
        np.fill_diagonal(near[:, start:], False)
        rows, columns = start + np.flatnonzero(near.any(axis=1)), np.flatnonzero(near.any(axis=0))
        if len(rows):
            alike = looks.units[rows] @ looks.units[columns].T
            alike[rows[:, None] == columns] = -1
            yield rows, columns, alike
