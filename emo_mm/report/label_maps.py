"""What a segmenter gets right and wrong: IoU, precision and recall per class, confusions, the worst images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emo_mm.report.analysis import Analysis, Rates, Worst, mean_of, often_confused, plain, ratio
from emo_mm.report.charts import bar_chart, matrix_chart
from emo_mm.report.page import Cell, Picture, Table
from emo_mm.report.sheets import IGNORED

MOST_CLASSES = 100  # beyond this a matrix says nothing


@dataclass(frozen=True)
class MaskRecord:
    """How the pixels of an image were labelled.

    Attributes:
        path: The image.
        pairs: True and predicted label of the pixels, each pair once, shape (n, 2).
        counts: Pixels of each pair, shape (n,).
    """

    path: str
    pairs: NDArray[np.int64]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, path: str, truth: NDArray[np.integer], found: NDArray[np.integer]) -> MaskRecord:
        """Return the record of two label maps of the same shape; pixels whose truth is 255 do not count."""
        counted = truth != IGNORED
        code = truth[counted].astype(np.int64) * 65536 + found[counted].astype(np.int64)
        values, counts = np.unique(code, return_counts=True)
        return cls(path, np.stack([values // 65536, values % 65536], axis=1), counts.astype(np.int64))

    def matrix(self, classes: int) -> NDArray[np.int64]:
        """Return the counts, shape (classes, classes): row the truth, column the prediction."""
        matrix = np.zeros((classes, classes), dtype=np.int64)
        matrix[self.pairs[:, 0], self.pairs[:, 1]] = self.counts
        return matrix


def analyse_masks(records: Sequence[MaskRecord], classes: Sequence[str]) -> Analysis:
    """Return what the predictions of a segmenter show.

    Args:
        records: The images.
        classes: Class names in label order.
    """
    count = len(classes)
    single = [_iou(record.matrix(count)) for record in records]
    matrix = np.zeros((count, count), dtype=np.int64)
    for record in records:
        matrix[record.pairs[:, 0], record.pairs[:, 1]] += record.counts
    rates, iou = Rates.of(matrix), _iou(matrix)
    share = ratio(matrix.sum(axis=1), matrix.sum())
    rows: list[tuple[Cell, ...]] = [
        (name, *map(float, (share[k], iou[k], rates.precision[k], rates.recall[k], rates.f1[k])))
        for k, name in enumerate(classes)
    ]
    columns = ('class', 'share of the pixels', 'IoU', 'precision', 'recall', 'F1')
    caption = 'F1 of pixels is the Dice score. A dash: no pixel of the class.'
    pictures = [_bars(classes, iou)] if count <= MOST_CLASSES else []
    if count <= MOST_CLASSES:
        svg = matrix_chart(matrix, classes, 'predicted', 'truth')
        pictures.append(Picture('Confusion matrix', svg, '.svg', 'Pixels. Each row is a true class.'))
    return Analysis(
        Table(columns, tuple(rows), caption=caption),
        (often_confused(matrix, tuple(classes), count),),
        tuple(pictures),
        _worst(single),
        data={
            'confusion': {'names': list(classes), 'matrix': matrix.tolist()},
            'mean_iou_of_images': plain(np.array([_mean(one) for one in single], dtype=float)),
        },
    )


def _bars(classes: Sequence[str], iou: NDArray[np.float64]) -> Picture:
    order = np.argsort(-np.nan_to_num(iou), kind='stable')
    svg = bar_chart([classes[k] for k in order], {'IoU': [float(iou[k]) for k in order]}, 'IoU')
    return Picture('IoU of the classes', svg, '.svg', 'The best first.')


def _iou(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the IoU of each class, shape (classes,); NaN where a class is in neither truth nor prediction."""
    common = np.diag(matrix).astype(float)
    return ratio(common, matrix.sum(axis=0) + matrix.sum(axis=1) - common)


def _mean(iou: NDArray[np.float64]) -> float:
    mean = mean_of(iou)
    return float('nan') if mean is None else mean


def _worst(single: Sequence[NDArray[np.float64]], most: int = 8) -> tuple[Worst, ...]:
    """Return the images with the lowest mean IoU over the classes that are in them or found in them."""
    scored = sorted((_mean(iou), index) for index, iou in enumerate(single) if _mean(iou) < 1)
    return tuple(Worst(index, f'mean IoU {mean:.2f}') for mean, index in scored[:most])
