"""What a classifier gets right and wrong: precision and recall per class, confidence, confusions, the worst images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emo_mm.report.analysis import GRID, Analysis, Rates, Worst, often_confused, plain
from emo_mm.report.charts import Line, line_chart, matrix_chart
from emo_mm.report.page import Cell, Picture, Table

MOST_CLASSES = 100  # beyond this a matrix says nothing


@dataclass(frozen=True)
class LabelRecord:
    """What an image was taken for.

    Attributes:
        path: The image.
        truth: Its label.
        found: The predicted label.
        score: The confidence in it, 0 to 1.
        rank: Place of the true label among the predictions, from 0.
    """

    path: str
    truth: int
    found: int
    score: float
    rank: int


def analyse_labels(records: Sequence[LabelRecord], classes: Sequence[str]) -> Analysis:
    """Return what the predictions of a classifier show.

    Args:
        records: The images.
        classes: Class names in label order.
    """
    truth, found, rank = (np.array([getattr(r, name) for r in records], int) for name in ('truth', 'found', 'rank'))
    score = np.array([record.score for record in records])
    matrix = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(matrix, (truth, found), 1)
    rates = Rates.of(matrix)
    within = [rank[truth == k] < 5 for k in range(len(classes))]
    rows: list[tuple[Cell, ...]] = [
        (
            name,
            int(matrix[k].sum()),
            *map(float, (rates.precision[k], rates.recall[k], rates.f1[k])),
            float(within[k].mean()) if len(within[k]) else None,
        )
        for k, name in enumerate(classes)
    ]
    columns = ('class', 'images', 'precision', 'recall', 'F1', 'among the best 5')
    picture, curves = _by_confidence(truth == found, score)
    pictures = [picture]
    if len(classes) <= MOST_CLASSES:
        svg = matrix_chart(matrix, classes, 'predicted', 'truth')
        pictures.append(Picture('Confusion matrix', svg, '.svg', 'Images. Each row is a true class.'))
    return Analysis(
        Table(columns, tuple(rows), caption='Recall is the share of the images of a class that are recognised.'),
        (often_confused(matrix, tuple(classes), len(classes)),),
        tuple(pictures),
        _worst(records),
        data={'confusion': {'names': list(classes), 'matrix': matrix.tolist()}, 'curves': curves},
    )


def _by_confidence(right: NDArray[np.bool_], score: NDArray[np.float64]) -> tuple[Picture, dict[str, list[float]]]:
    """Return how often the classifier is right, and answers at all, if it is silent below a confidence."""
    above = score[None, :] >= GRID[:, None]  # (threshold, image)
    answered = above.sum(axis=1)
    hits = (above & right[None, :]).sum(axis=1)
    precision = np.where(answered > 0, hits / np.maximum(answered, 1), np.nan)
    recall = hits / max(len(right), 1)
    f1 = 2 * hits / np.maximum(answered + len(right), 1)
    lines = {
        'precision': Line(GRID, precision),
        'recall (right of all images)': Line(GRID, recall),
        'F1': Line(GRID, f1, strong=True),
        'answered': Line(GRID, answered / max(len(right), 1)),
    }
    picture = Picture(
        'Precision, recall and F1 against the confidence',
        line_chart(lines, 'least confidence of an answer', 'share'),
        '.svg',
        'What becomes of all classes together if answers below a confidence are withheld.',
    )
    curves = {'confidence': GRID, 'precision': precision, 'recall': recall, 'f1': f1}
    return picture, {name: plain(values) for name, values in curves.items()}


def _worst(records: Sequence[LabelRecord], most: int = 24) -> tuple[Worst, ...]:
    """Return the images that were taken for something else with the highest confidence."""
    wrong = [(-record.score, index) for index, record in enumerate(records) if record.truth != record.found]
    return tuple(Worst(index, f'confidence {-score:.2f}') for score, index in sorted(wrong)[:most])
