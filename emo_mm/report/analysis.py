"""What the analysis of predictions gives, whatever the task, and what several tasks compute alike."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emo_mm.report.page import Picture, Table

#: Thresholds that curves are computed at.
GRID: NDArray[np.float64] = np.linspace(0, 1, 101, dtype=np.float64)


@dataclass(frozen=True)
class Worst:
    """An image that was predicted badly.

    Attributes:
        index: Its place among the records.
        words: How badly, in words.
    """

    index: int
    words: str


@dataclass(frozen=True)
class Analysis:
    """What was learned, at a glance.

    Attributes:
        per_class: A row per class.
        tables: Further tables.
        pictures: Charts.
        worst: The images that were predicted worst, the worst first.
        threshold: The score from which on predictions are counted here; None where there are no scores.
        notes: What must be known to read the figures.
        data: What else belongs into the JSON file.
    """

    per_class: Table
    tables: tuple[Table, ...] = ()
    pictures: tuple[Picture, ...] = ()
    worst: tuple[Worst, ...] = ()
    threshold: float | None = None
    notes: tuple[str, ...] = ()
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Rates:
    """Precision, recall and F1 of classes from a confusion matrix.

    Attributes:
        precision: Right among what was predicted as the class, shape (n,); NaN where nothing was.
        recall: Right among what is of the class, shape (n,); NaN where nothing is.
        f1: Harmonic mean of both, shape (n,); 0 where nothing is right, NaN where the class is absent from both.
    """

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]

    @classmethod
    def of(cls, matrix: NDArray[np.int64]) -> Rates:
        """Return the rates of a confusion matrix, shape (n, n): row the true class, column the predicted one."""
        right = np.diag(matrix).astype(float)
        predicted, true = matrix.sum(axis=0), matrix.sum(axis=1)
        return cls(ratio(right, predicted), ratio(right, true), ratio(2 * right, predicted + true))


def ratio(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    """Return ``part / whole``, NaN where ``whole`` is 0."""
    shape = np.broadcast_shapes(np.shape(part), np.shape(whole))
    return np.divide(part, whole, out=np.full(shape, np.nan), where=np.asarray(whole) > 0)


def mean_of(values: NDArray[np.float64]) -> float | None:
    """Return the mean of what is no NaN; None where there is nothing."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else None


def plain(values: NDArray[Any]) -> list[Any]:
    """Return an array as JSON holds it: NaN as None."""
    numbers = np.asarray(values, dtype=object)
    numbers[np.isnan(np.asarray(values, dtype=float))] = None
    return list(numbers.tolist())


def often_confused(matrix: NDArray[np.int64], names: tuple[str, ...], known: int, most: int = 15) -> Table:
    """Return the pairs of classes that are confused most often.

    Args:
        matrix: Counts, shape (n, n): row the true class, column the predicted one.
        names: Name of each row, and of each column.
        known: Rows that are classes. The row after them, if any, is the background, whose whole nobody knows.
        most: Rows of the table.
    """
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind='stable')[:most]
    pairs = [divmod(int(place), len(names)) for place in order]
    shares = ratio(wrong, matrix.sum(axis=1, keepdims=True))
    rows = [
        (names[true], names[found], int(wrong[true, found]), float(shares[true, found]) if true < known else None)
        for true, found in pairs
        if wrong[true, found]
    ]
    return Table(
        ('truth', 'predicted', 'number', 'share of the truth'), tuple(rows), 'Confused most often', words=(0, 1)
    )
