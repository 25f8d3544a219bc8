"""Selection of boxes in a graph: the best of each level, suppression, the best of the image."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import nms

from emo_mm.runtime.metadata import NMS


class Selected(NamedTuple):
    """Boxes that were selected, best first.

    Attributes:
        boxes: (N, K, 5), boxes and scores; zeros where there is none.
        labels: (N, K); -1 where there is none.
        anchors: (N, K), the anchor of each box; any where there is none.
    """

    boxes: Tensor
    labels: Tensor
    anchors: Tensor


def select(boxes: Tensor, scores: Tensor, counts: list[int], size: tuple[int, int], how: NMS) -> Selected:
    """Select boxes as mmdet does, for all images of a batch at once.

    Args:
        boxes: (N, A, 4).
        scores: (N, A, C).
        counts: Anchors in each level, which sum to A.
        size: Height and width of the input.
        how: Thresholds and numbers.
    """
    classes = scores.shape[2]
    candidates, first = [], 0
    for count in counts:
        level = scores[:, first : first + count].flatten(1)  # N,a,C -> N,a·C
        limit = min(how.nms_pre or count * classes, count * classes)
        best, index = level.topk(limit)
        candidates.append((best, index + first * classes))
        first += count
    best = torch.cat([scores for scores, _ in candidates], 1)  # N,M
    index = torch.cat([index for _, index in candidates], 1)
    labels, anchors = index % classes, index // classes
    boxes = clipped(taken(boxes, anchors), size)  # N,A,4 -> N,M,4
    valid = (best > how.score_threshold) & is_larger(boxes, how.min_size)
    groups = torch.zeros_like(labels) if how.class_agnostic else labels
    top, order = suppress(boxes, best, groups, valid, size, how.iou_threshold, how.max_per_image)
    there = top > 0
    found = torch.cat([taken(boxes, order), top[..., None]], -1) * there[..., None]
    return Selected(found, torch.where(there, labels.gather(1, order), -1), anchors.gather(1, order))


def suppress(
    boxes: Tensor, scores: Tensor, groups: Tensor, valid: Tensor, size: tuple[int, int], threshold: float, limit: int
) -> tuple[Tensor, Tensor]:
    """Return the scores and indices of the boxes that no better one of their group overlaps.

    Args:
        boxes: (N, M, 4), inside the input.
        scores: (N, M), above 0.
        groups: (N, M), integers: boxes of one group suppress each other.
        valid: (N, M), whether a box takes part.
        size: Height and width of the input.
        threshold: Intersection over union above which the lower box goes.
        limit: Boxes to return at most.

    Returns:
        Two of (N, K), best first; the scores of what did not stay are -1.
    """
    height, width = size
    chosen = valid.flatten().nonzero().squeeze(1)  # indices into N·M
    # Boxes of different groups lie side by side and those of different images one below the other, so that one
    # suppression serves them all. Shifting on both axes keeps the coordinates small, and float32 exact enough.
    down = torch.arange(boxes.shape[0], device=boxes.device)[:, None].expand_as(groups)
    shift = torch.stack([groups * (width + 1), down * (height + 1)], -1).to(boxes.dtype)  # N,M,2
    apart = (boxes + torch.cat([shift, shift], -1)).flatten(0, 1)  # N,M,4 -> N·M,4
    kept = chosen[nms(apart[chosen], scores.flatten()[chosen], threshold)]
    # dropped ones sink below every score
    alive = torch.full_like(scores.flatten(), -1).index_put((kept,), scores.flatten()[kept]).view_as(scores)
    return alive.topk(min(limit, alive.shape[1]))


def clipped(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Return boxes (..., 4) clipped to a height and width."""
    height, width = size
    return torch.minimum(boxes.clamp(min=0), boxes.new_tensor([width, height, width, height]))


def is_larger(boxes: Tensor, least: float) -> Tensor:
    """Tell whether both sides of boxes (..., 4) are longer than a number of pixels."""
    return ((boxes[..., 2:] - boxes[..., :2]) > least).all(-1)


def taken(boxes: Tensor, index: Tensor) -> Tensor:
    """Return the boxes (N, M, 4) of (N, A, 4) that indices (N, M) name."""
    return boxes.gather(1, index[..., None].expand(-1, -1, boxes.shape[-1]))
