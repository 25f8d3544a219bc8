"""From the outputs of the graph to boxes, masks and probabilities of the photograph, in NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from emo_mm.runtime.masks import Masks, logits_of, over_boxes, over_input
from emo_mm.runtime.metadata import NMS, OUTPUT_NAMES, Metadata
from emo_mm.runtime.preprocess import Prepared
from emo_mm.runtime.results import Classification, Detections, Result, Segmentation

_BLOCK = 128  # boxes that are compared with each other at once
_STRIPE = 2**18  # pixels of a photograph whose classes are compared at once


def results_of(
    outputs: Sequence[np.ndarray], images: Sequence[Prepared], size: tuple[int, int], metadata: Metadata
) -> list[Result]:
    """Return the results of a batch.

    Args:
        outputs: What the graph gave, as :class:`~emo_mm.runtime.metadata.OutputSpec` describes it.
        images: The images of the batch.
        size: Width and height of the input.
        metadata: The description.
    """
    kind = metadata.output.kind
    if kind == 'probabilities':
        return [Classification(row) for row in outputs[0][: len(images)]]
    if kind == 'logits':
        corners = metadata.align_corners
        return [Segmentation(label_map(x, im, size, corners)) for x, im in zip(outputs[0], images, strict=False)]
    if kind == 'labels':
        return [Segmentation(_resize_labels(x, im)) for x, im in zip(outputs[0], images, strict=False)]
    assert metadata.nms is not None  # detectors have it
    if kind in ('detections', 'masks', 'roi_masks'):
        rows = zip(images, *outputs, strict=False)  # a graph of a fixed batch may give more
        return [_of_selected(of_image, im, size, metadata) for im, *of_image in rows]
    usual = len(OUTPUT_NAMES[kind])
    if metadata.output.levels is not None:
        starts = np.cumsum((0, *metadata.output.levels))
    elif len(outputs) > usual:
        starts = np.searchsorted(outputs[usual], np.arange(int(outputs[usual][-1]) + 2))
    else:
        starts = np.array((0, outputs[0].shape[1]))
    rows = zip(images, *outputs[:usual], strict=False)
    return [_of_anchors(of_image, starts, im, size, metadata) for im, *of_image in rows]


def _of_anchors(
    outputs: Sequence[np.ndarray], starts: np.ndarray, image: Prepared, size: tuple[int, int], metadata: Metadata
) -> Detections:
    """Return the objects of an image whose boxes are still to be selected; each output without the batch."""
    boxes, scores, *rest = outputs
    assert metadata.nms is not None  # detectors have it
    found, anchors = _selection(boxes, scores, starts, image, metadata.nms)
    if metadata.masks is None:
        return found
    kernels, prototypes = rest
    assert metadata.masks.channels is not None  # kernels have them
    logits = logits_of(kernels[anchors], prototypes, metadata.masks.channels)
    return _with_masks(found, over_input(logits, *_to_photograph(logits, image, size), metadata.masks.threshold), image)


def _of_selected(
    outputs: Sequence[np.ndarray], image: Prepared, size: tuple[int, int], metadata: Metadata
) -> Detections:
    """Return the objects of an image that the graph selected; each output without the batch."""
    boxes, labels, *rest = outputs
    assert metadata.nms is not None  # detectors have it
    found, kept = _selected_by_graph(boxes, labels, image, metadata.nms)
    if metadata.masks is None:
        return found
    logits, threshold = rest[0][kept], metadata.masks.threshold
    if metadata.output.kind == 'roi_masks':
        return _with_masks(found, over_boxes(logits, found.boxes, image.original, threshold), image)
    return _with_masks(found, over_input(logits, *_to_photograph(logits, image, size), threshold), image)


def _with_masks(found: Detections, masks: tuple[list[np.ndarray], np.ndarray], image: Prepared) -> Detections:
    return replace(found, masks=Masks(*masks, image.original))


def _to_photograph(maps: np.ndarray, image: Prepared, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return what interpolates maps over the input to the photograph: (W, w) for the columns and (H, h) for the rows.

    The maps are interpolated to the input, whose padding is cut off, and from there to the photograph: two linear maps,
    which are joined into one for rows and one for columns.

    Args:
        maps: (..., h, w).
        image: The image.
        size: Width and height of the input.
    """
    columns, rows = (
        interpolation_matrix(inside, original, False) @ interpolation_matrix(low, padded, False)[:inside]
        for low, padded, inside, original in zip(maps.shape[:-3:-1], size, image.size, image.original, strict=True)
    )
    return columns, rows


def select_boxes(boxes: np.ndarray, scores: np.ndarray, starts: np.ndarray, image: Prepared, how: NMS) -> Detections:
    """Select the boxes of an image, in mmdet's order of steps.

    Args:
        boxes: (A, 4), in pixels of the input.
        scores: (A, C).
        starts: First anchor of each level, and A: (levels + 1,).
        image: The image.
        how: Thresholds and numbers.

    Returns:
        At most ``how.max_per_image`` boxes, in pixels of the photograph, best first.
    """
    return _selection(boxes, scores, starts, image, how)[0]


def _selection(
    boxes: np.ndarray, scores: np.ndarray, starts: np.ndarray, image: Prepared, how: NMS
) -> tuple[Detections, np.ndarray]:
    """Return the boxes that :func:`select_boxes` does, and the anchor of each, (K,)."""
    classes = scores.shape[1]
    # (A, C) -> (A * C,), whose index is anchor * C + class
    flat = scores.reshape(-1)
    found = np.flatnonzero(flat > np.float32(how.score_threshold))
    if how.nms_pre is not None and found.size > how.nms_pre:
        ends = np.searchsorted(found, starts * classes)
        levels = (found[a:b] for a, b in pairwise(ends))
        found = np.concatenate([level[_best(flat[level], how.nms_pre)] for level in levels])
    anchors, labels = np.divmod(found, classes)
    kept_boxes, kept_scores = to_photograph(boxes[anchors], image), flat[found]
    if how.min_size >= 0:
        width, height = (kept_boxes[:, 2:] - kept_boxes[:, :2]).T
        large = (width > how.min_size) & (height > how.min_size)
        kept_boxes, kept_scores, labels, anchors = kept_boxes[large], kept_scores[large], labels[large], anchors[large]
    keep = nms(kept_boxes, kept_scores, None if how.class_agnostic else labels, how.iou_threshold, how.max_per_image)
    return Detections(kept_boxes[keep], kept_scores[keep], labels[keep]), anchors[keep]


def nms(boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray | None, threshold: float, limit: int) -> np.ndarray:
    """Return the indices of boxes that no better one overlaps, best first.

    Args:
        boxes: (N, 4).
        scores: (N,).
        labels: (N,): only boxes of one class suppress each other; None if all do.
        threshold: Intersection over union above which the lower box goes.
        limit: Boxes to return at most.
    """
    order = np.argsort(-scores, kind='stable')
    boxes = boxes[order]
    if labels is not None and len(order):
        # Each class on a place of its own, as in mmcv and with its rounding.
        boxes = boxes + (labels[order].astype(np.float32) * (boxes.max() + np.float32(1)))[:, None]
    sides = np.ascontiguousarray(boxes.T)  # 4,N: NumPy is several times faster along long axes
    keep: list[int] = []
    # Blocks, because the limit is often reached long before the last box.
    for start in range(0, len(order), _BLOCK):
        block = sides[:, start : start + _BLOCK]
        if keep:
            alive = np.flatnonzero(~_overlaps(sides[:, keep], block, threshold).any(axis=0))
            block = block[:, alive]
        else:
            alive = np.arange(block.shape[1])
        within = _overlaps(block, block, threshold)
        gone = np.zeros(len(alive), bool)
        for index, place in enumerate(alive.tolist()):
            if not gone[index]:
                keep.append(start + place)
                if len(keep) == limit:
                    return order[keep]
                gone |= within[index]  # earlier boxes are decided already
    return order[keep]


def _overlaps(one: np.ndarray, other: np.ndarray, threshold: float) -> np.ndarray:
    """Tell which boxes (4, K) and (4, L) overlap by more than a share of their union: (K, L)."""
    areas = [(right - left) * (bottom - top) for left, top, right, bottom in (one, other)]
    first = one[..., None]  # 4,K,1
    common = np.minimum(first[2], other[2]) - np.maximum(first[0], other[0])  # K,L, their width
    height = np.minimum(first[3], other[3]) - np.maximum(first[1], other[1])
    np.maximum(common, 0, out=common)
    common *= np.maximum(height, 0, out=height)
    union = areas[0][:, None] + areas[1]
    union -= common
    with np.errstate(invalid='ignore', divide='ignore'):  # boxes without area: 0 / 0 is not above
        common /= union
    return common > np.float32(threshold)


def _best(scores: np.ndarray, limit: int) -> np.ndarray | slice:
    return slice(None) if scores.size <= limit else np.argpartition(-scores, limit - 1)[:limit]


def to_photograph(boxes: np.ndarray, image: Prepared) -> np.ndarray:
    """Clip boxes (N, 4) to the image and scale them from the input's pixels to the photograph's."""
    width, height = image.size
    limits = np.array((width, height, width, height), np.float32)
    # the reciprocal of the rounded factor, as mmdet computes it
    factors = [1 / (new / old) for new, old in zip(image.size, image.original, strict=True)]
    return boxes.astype(np.float32).clip(0, limits) * np.array(factors * 2, np.float32)


def _selected_by_graph(
    boxes: np.ndarray, labels: np.ndarray, image: Prepared, how: NMS
) -> tuple[Detections, np.ndarray]:
    """Return what NMS in the graph left of ``boxes`` (K, 5) and ``labels`` (K,) of an image, and where it was, (k,)."""
    fine = np.flatnonzero((labels >= 0) & (boxes[:, 4] > how.score_threshold))
    kept = fine[np.argsort(-boxes[fine, 4], kind='stable')[: how.max_per_image]]
    found = Detections(to_photograph(boxes[kept, :4], image), boxes[kept, 4], labels[kept].astype(np.int64))
    return found, kept


def label_map(logits: np.ndarray, image: Prepared, size: tuple[int, int], align_corners: bool) -> np.ndarray:
    """Return the best class of each pixel of the photograph.

    The logits are interpolated to the input, whose padding is cut off, and from there to the photograph: two linear
    maps, which are joined into one for rows and one for columns.

    Args:
        logits: (C, h, w).
        image: The image.
        size: Width and height of the input.
        align_corners: Whether interpolation aligns the corners.

    Returns:
        (H, W), uint8, or uint16 beyond 256 classes.
    """
    count, height, width = logits.shape
    by_axis = []
    for low, padded, inside, original in zip((width, height), size, image.size, image.original, strict=True):
        to_input = interpolation_matrix(low, padded, align_corners)[:inside]
        by_axis.append(interpolation_matrix(inside, original, align_corners) @ to_input)
    columns, rows = by_axis  # (W, w), (H, h)
    wide = logits.astype(np.float32) @ columns.T  # C,h,w @ w,W -> C,h,W
    labels = np.zeros((image.original[1], image.original[0]), np.uint8 if count <= 256 else np.uint16)
    stripe = max(1, _STRIPE // labels.shape[1])
    for start in range(0, len(labels), stripe):
        here = rows[start : start + stripe]
        best = here @ wide[0]  # s,h @ h,W -> s,W
        for label in range(1, count):
            scores = here @ wide[label]
            better = scores > best
            labels[start : start + stripe][better] = label
            np.maximum(best, scores, out=best)
    return labels


def interpolation_matrix(old: int, new: int, align_corners: bool) -> np.ndarray:
    """Return the matrix (new, old) that interpolates linearly, with PyTorch's meaning of ``align_corners``."""
    if align_corners:
        place = np.arange(new) * ((old - 1) / max(new - 1, 1))
    else:
        place = ((np.arange(new) + 0.5) * (old / new) - 0.5).clip(0)
    low = np.floor(place).astype(np.intp).clip(0, old - 1)
    weight = (place - low).astype(np.float32)
    matrix = np.zeros((new, old), np.float32)
    matrix[np.arange(new), low] += 1 - weight
    matrix[np.arange(new), (low + 1).clip(0, old - 1)] += weight
    return matrix


def _resize_labels(labels: np.ndarray, image: Prepared) -> np.ndarray:
    """Resize a label map (H, W) of the input to the photograph, to the nearest pixel."""
    width, height = image.size
    inside = labels[:height, :width]
    inside = inside.astype(np.uint8 if inside.max(initial=0) < 256 else np.uint16)
    columns, rows = (
        ((np.arange(old) + 0.5) * (new / old)).astype(np.intp)
        for old, new in zip(image.original, image.size, strict=True)
    )
    return inside[rows[:, None], columns]
