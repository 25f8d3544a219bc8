"""What a detector finds and misses: AP per class and size, curves over the score, confusions, the worst images.

Objects whose outlines are known are compared by their pixels, others by their boxes. AP is pycocotools'. Everything
else is at one IoU and one score threshold, which the report states.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from emo_mm.report.analysis import GRID, Analysis, Rates, Worst, often_confused, plain
from emo_mm.report.charts import Line, line_chart, matrix_chart
from emo_mm.report.page import Cell, Picture, Table
from emo_mm.report.sheets import Boxes

IOU = 0.5  # from which on a box is found, in all but AP
BACKGROUND = '(background)'
MOST_CURVES = 12  # classes that get a line of their own in a chart
MOST_CLASSES = 100  # beyond this a matrix says nothing

# mmdet's limits of boxes per image: AP is at the first, AP50, AP75 and AP by size at the last.
_LIMITS = (100, 300, 1000)
_LEAST_THRESHOLD = 0.05  # below it, a poor detector would be shown with all that it guesses
_SIZES = ('small', 'medium', 'large')


@dataclass(frozen=True)
class BoxRecord:
    """The boxes of an image, all in its own pixels.

    Attributes:
        path: The image.
        truth: True boxes that count.
        ignored: Boxes that neither count nor are mistakes: crowds, difficult objects.
        found: Predicted boxes with their scores.
    """

    path: str
    truth: Boxes
    ignored: Boxes
    found: Boxes


def analyse_boxes(records: Sequence[BoxRecord], classes: Sequence[str], threshold: float | None = None) -> Analysis:
    """Return what the predictions of a detector show.

    Args:
        records: The images.
        classes: Class names in label order.
        threshold: Score from which on boxes count in all but the curves and AP; None for the best F1 here.
    """
    evaluated = _evaluate(records, len(classes))
    curves = _Curves.of(evaluated, len(classes))
    best = curves.best
    chosen = best if threshold is None else threshold
    pairs = [_pair(record, chosen) for record in records]
    matrix = _confusion(records, pairs, len(classes))
    rates = Rates.of(matrix)
    names = (*classes, BACKGROUND)
    counts = matrix[:-1].sum(axis=1)
    ap, ap50, ap75 = (_ap(evaluated, iou) for iou in (None, 0.5, 0.75))
    rows: list[tuple[Cell, ...]] = [
        (name, int(counts[k]), *map(float, (ap[k], ap50[k], ap75[k], rates.precision[k], rates.recall[k], rates.f1[k])))
        for k, name in enumerate(classes)
    ]
    what = 'objects' if _are_outlined(records) else 'boxes'
    where = f'score from {chosen:.2f}, IoU {"of the masks " if what == "objects" else ""}from {IOU}'
    columns = ('class', what, 'AP', 'AP50', 'AP75', 'precision', 'recall', 'F1')
    per_class = Table(columns, tuple(rows), caption=f'Precision, recall and F1: {where}.')
    pictures = _curve_pictures(curves, classes, counts, ap50, what)
    if len(classes) <= MOST_CLASSES:
        svg = matrix_chart(matrix, names, 'predicted', 'truth')
        caption = f'{what.capitalize()} with {where}. Last row: found where nothing is. Last column: missed.'
        pictures.append(Picture('Confusion matrix', svg, '.svg', caption))
    return Analysis(
        per_class,
        (_by_size(evaluated, records, what), often_confused(matrix, names, len(classes))),
        tuple(pictures),
        _worst(pairs),
        chosen,
        (f'{what.capitalize()} count from a score of {chosen:.2f}, {_origin(threshold, best)}.',),
        {
            'iou': IOU,
            'best_threshold': best,
            'confusion': {'names': list(names), 'matrix': matrix.tolist()},
            'curves': {'score': plain(GRID), 'precision': plain(curves.mean(curves.precision)),
                       'recall': plain(curves.mean(curves.recall)), 'f1': plain(curves.mean_f1)},
        },
    )  # fmt: skip


def _origin(threshold: float | None, best: float) -> str:
    if threshold is None:
        return 'where the mean F1 over the classes is best on these images'
    return f'which was chosen on the validation images; here {best:.2f} would be best'


# --- AP
def _evaluate(records: Sequence[BoxRecord], classes: int) -> COCOeval:
    """Return pycocotools' evaluation of all images, accumulated."""
    truth, found = COCO(), COCO()
    # pycocotools looks up sizes, which an RLE has itself
    images = [{'id': i, 'height': 0, 'width': 0} for i in range(1, len(records) + 1)]
    categories = [{'id': label} for label in range(classes)]
    true_entries: list[dict[str, Any]] = []
    found_entries: list[dict[str, Any]] = []
    for i, record in enumerate(records, 1):
        true_entries += _entries(record.truth, i, crowd=0)
        true_entries += _entries(record.ignored, i, crowd=1)
        scores = record.found.scores
        assert scores is not None  # of a prediction
        entries = _entries(record.found, i, crowd=0)
        found_entries += [{**entry, 'score': float(score)} for entry, score in zip(entries, scores, strict=True)]
    for coco, entries in ((truth, true_entries), (found, found_entries)):
        coco.dataset = {
            'images': images,
            'categories': categories,
            'annotations': [{**entry, 'id': number} for number, entry in enumerate(entries, 1)],
        }
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints what it does
        truth.createIndex()
        found.createIndex()
        evaluated = COCOeval(truth, found, 'segm' if _are_outlined(records) else 'bbox')
        evaluated.params.maxDets = list(_LIMITS)
        evaluated.evaluate()
        evaluated.accumulate()
    return evaluated


def _are_outlined(records: Sequence[BoxRecord]) -> bool:
    return any(record.found.outlines is not None for record in records)


def _entries(boxes: Boxes, image: int, crowd: int) -> list[dict[str, Any]]:
    outlines = [{}] * len(boxes.labels) if boxes.outlines is None else [{'segmentation': x} for x in boxes.outlines]
    rows = zip(_sides(boxes).tolist(), boxes.labels, _areas(boxes).tolist(), outlines, strict=True)
    return [
        {'image_id': image, 'category_id': int(label), 'bbox': box, 'area': area, 'iscrowd': crowd, **outline}
        for box, label, area, outline in rows
    ]


def _sides(boxes: Boxes) -> NDArray[np.float64]:
    """Return left, top, width and height of boxes, shape (n, 4)."""
    return np.concatenate([boxes.xyxy[:, :2], boxes.xyxy[:, 2:] - boxes.xyxy[:, :2]], axis=1).astype(np.float64)


def _areas(boxes: Boxes) -> NDArray[np.float64]:
    """Return the pixels of objects, or the areas of boxes without outlines, shape (n,)."""
    if boxes.outlines is not None:
        return np.array([mask_utils.area(outline) for outline in boxes.outlines], np.float64)
    return _sides(boxes)[:, 2:].prod(axis=1)


def _ap(evaluated: COCOeval, iou: float | None) -> NDArray[np.float64]:
    """Return AP per class, shape (n,), over all IoUs or at one; NaN for classes without a true box."""
    precision = evaluated.eval['precision'][:, :, :, 0, 0 if iou is None else -1]  # (IoU, recall, class)
    if iou is not None:
        precision = precision[np.isclose(evaluated.params.iouThrs, iou)]
    values = precision.mean(axis=(0, 1))
    return np.where(values < 0, np.nan, values)  # pycocotools says -1


def _by_size(evaluated: COCOeval, records: Sequence[BoxRecord], what: str) -> Table:
    """Return AP and numbers of boxes or objects by their size in the photographs."""
    areas = np.concatenate([_areas(record.truth) for record in records])
    rows = []
    for number, (name, (low, high)) in enumerate(zip(_SIZES, evaluated.params.areaRng[1:], strict=True), 1):
        precision = evaluated.eval['precision'][:, :, :, number, -1]
        recall = evaluated.eval['recall'][np.isclose(evaluated.params.iouThrs, IOU)][..., number, -1]
        inside = int(((areas >= low) & (areas < high)).sum())
        ap, found = (float(x[x > -1].mean()) if (x > -1).any() else None for x in (precision, recall))
        rows.append((f'{name} ({_range(low, high)})', inside, ap, found))
    caption = (
        'Sides of a square of the same area, in pixels of the photograph. Recall: of any score, mean of the classes.'
    )
    return Table((f'size of the {what}', what, 'AP', f'recall at IoU {IOU}'), tuple(rows), 'By size', caption)


def _range(low: float, high: float) -> str:
    if low <= 0:
        return f'below {high**0.5:.0f} px'
    return f'{low**0.5:.0f} px and more' if high > 1e9 else f'{low**0.5:.0f} to {high**0.5:.0f} px'


# --- curves over the score
@dataclass(frozen=True)
class _Curves:
    """Precision, recall and F1 against the score threshold, at one IoU.

    Attributes:
        precision: Shape (class, threshold); 1 where nothing is predicted, NaN for classes without a true box.
        recall: Likewise; 0 where nothing is predicted.
        f1: Likewise.
    """

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]

    @classmethod
    def of(cls, evaluated: COCOeval, classes: int) -> _Curves:
        """Return the curves of an evaluation."""
        place = int(np.flatnonzero(np.isclose(evaluated.params.iouThrs, IOU))[0])
        images = len(evaluated.params.imgIds)
        # evalImgs: by class, then area range, then image; None where a class has neither truth nor prediction
        ranges = len(evaluated.params.areaRng)
        lines = [
            _of_class([one for one in evaluated.evalImgs[k * ranges * images :][:images] if one is not None], place)
            for k in range(classes)
        ]
        precision, recall, f1 = (np.stack(part) for part in zip(*lines, strict=True))
        return cls(precision, recall, f1)

    @staticmethod
    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the mean over the classes that have true boxes, shape (threshold,)."""
        known = values[~np.isnan(values).any(axis=1)]
        return known.mean(axis=0) if len(known) else np.zeros(len(GRID))

    @property
    def mean_f1(self) -> NDArray[np.float64]:
        """The mean F1 over the classes, shape (threshold,)."""
        return self.mean(self.f1)

    @property
    def best(self) -> float:
        """The threshold of the best mean F1, of those that leave anything to choose."""
        sensible = (GRID >= _LEAST_THRESHOLD) & (GRID <= 1 - _LEAST_THRESHOLD)
        return float(GRID[sensible][int(self.mean_f1[sensible].argmax())])


def _of_class(images: list[dict[str, Any]], place: int) -> tuple[NDArray[np.float64], ...]:
    """Return precision, recall and F1 of a class against the threshold, each of shape (threshold,).

    Args:
        images: What pycocotools found in each image of the class.
        place: Index of the IoU.
    """
    true = sum(int((np.asarray(one['gtIgnore']) == 0).sum()) for one in images)
    if not true:
        return (np.full(len(GRID), np.nan),) * 3
    counted = [np.asarray(one['dtIgnore'])[place] == 0 for one in images]
    scores = np.concatenate([np.asarray(one['dtScores'])[mask] for one, mask in zip(images, counted, strict=True)])
    hits = np.concatenate([one['dtMatches'][place][mask] > 0 for one, mask in zip(images, counted, strict=True)])
    order = np.argsort(-scores, kind='stable')
    above = np.searchsorted(-scores[order], -GRID, side='right')  # predictions with at least that score
    right = np.concatenate([[0], np.cumsum(hits[order])])[above]
    precision = np.where(above > 0, right / np.maximum(above, 1), 1.0)
    return precision, right / true, 2 * right / (above + true)


def _curve_pictures(
    curves: _Curves, classes: Sequence[str], counts: NDArray[np.int64], ap50: NDArray[np.float64], what: str
) -> list[Picture]:
    """Return precision against recall, and F1 against the score; of many classes, those with most boxes."""
    shown = sorted(np.argsort(-counts, kind='stable')[:MOST_CURVES].tolist())
    shown = [k for k in shown if counts[k]]
    few = '' if len(shown) == np.count_nonzero(counts) else f' Of {len(classes)} classes, those with most {what}.'
    by_recall = {f'{classes[k]} {ap50[k]:.2f}': _staircase(curves.recall[k], curves.precision[k]) for k in shown}
    by_score = {classes[k]: Line(GRID, curves.f1[k]) for k in shown}
    best = curves.best
    height = float(np.interp(best, GRID, curves.mean_f1))
    by_score['mean'] = Line(GRID, curves.mean_f1, strong=True)
    mark = (best, height, f'{height:.2f} at {best:.2f}')
    return [
        Picture(
            'Precision against recall',
            line_chart(by_recall, f'recall (IoU from {IOU})', 'precision'),
            '.svg',
            f'With the AP50 of each class.{few}',
        ),
        Picture(
            'F1 against the score threshold',
            line_chart(by_score, 'score threshold', f'F1 (IoU from {IOU})', mark),
            '.svg',
            f'The best mean F1 is marked.{few}',
        ),
    ]


def _staircase(recall: NDArray[np.float64], precision: NDArray[np.float64]) -> Line:
    """Return precision over recall, each precision the best at that recall or a higher one, as AP counts it."""
    order = np.argsort(recall, kind='stable')
    best = np.maximum.accumulate(precision[order][::-1])[::-1]
    return Line(recall[order], best)


# --- at one threshold
@dataclass(frozen=True)
class _Pairs:
    """Which true and predicted boxes of an image belong together.

    Attributes:
        both: Labels of truth and prediction of each pair, shape (n, 2).
        missed: Labels of true boxes without a partner.
        extra: Labels of predicted boxes without a partner.
    """

    both: NDArray[np.int64]
    missed: NDArray[np.int64]
    extra: NDArray[np.int64]

    @property
    def f1(self) -> float | None:
        """F1 of the image over all classes; None where there is nothing to find and nothing found."""
        right = int((self.both[:, 0] == self.both[:, 1]).sum())
        total = 2 * len(self.both) + len(self.missed) + len(self.extra)
        return 2 * right / total if total else None


def _pair(record: BoxRecord, threshold: float) -> _Pairs:
    """Pair boxes of any class by their IoU, the closest first, once those that only cover ignored ones are gone."""
    scores = record.found.scores
    assert scores is not None  # of a prediction
    kept = scores >= threshold
    found = record.found.chosen(kept)
    labels = found.labels
    overlaps = _overlaps(found, record.truth)
    order = np.argsort(-overlaps, axis=None, kind='stable')
    free_found, free_truth = np.ones(len(labels), bool), np.ones(len(record.truth.labels), bool)
    both = []
    for place in order[: int((overlaps >= IOU).sum())]:
        i, j = divmod(int(place), overlaps.shape[1])
        if free_found[i] and free_truth[j]:
            free_found[i] = free_truth[j] = False
            both.append((record.truth.labels[j], labels[i]))
    free_found &= ~(_overlaps(found, record.ignored, crowd=True) >= IOU).any(axis=1)
    pairs = np.array(both, dtype=np.int64).reshape(-1, 2)
    return _Pairs(pairs, record.truth.labels[free_truth], labels[free_found])


def _overlaps(found: Boxes, truth: Boxes, crowd: bool = False) -> NDArray[np.float64]:
    """Return the IoU of each pair of objects, shape (found, truth); of a crowd, the share of the found one inside."""
    if not len(found.labels) or not len(truth.labels):
        return np.zeros((len(found.labels), len(truth.labels)))
    compared = [_sides(boxes) if boxes.outlines is None else list(boxes.outlines) for boxes in (found, truth)]
    return np.asarray(mask_utils.iou(*compared, [int(crowd)] * len(truth.labels)))


def _confusion(records: Sequence[BoxRecord], pairs: Sequence[_Pairs], classes: int) -> NDArray[np.int64]:
    """Return the counts, shape (classes + 1, classes + 1): row the truth, column the prediction, last nothing."""
    matrix = np.zeros((classes + 1, classes + 1), dtype=np.int64)
    for one in pairs:
        np.add.at(matrix, (one.both[:, 0], one.both[:, 1]), 1)
        np.add.at(matrix, (one.missed, np.full(len(one.missed), classes)), 1)
        np.add.at(matrix, (np.full(len(one.extra), classes), one.extra), 1)
    return matrix


def _worst(pairs: Sequence[_Pairs], most: int = 8) -> tuple[Worst, ...]:
    """Return the images with the lowest F1 and, of equal ones, the most mistakes; none without a mistake."""
    scored = []
    for index, one in enumerate(pairs):
        confused = int((one.both[:, 0] != one.both[:, 1]).sum())
        mistakes = confused + len(one.missed) + len(one.extra)
        if one.f1 is not None and mistakes:
            words = f'{len(one.missed)} missed, {len(one.extra)} too many, {confused} confused'
            scored.append((one.f1, -mistakes, index, words))
    return tuple(Worst(index, words) for _, _, index, words in sorted(scored)[:most])
