"""Stand-ins for mmcv's ops on boxes. Boxes are left, top, right, bottom; arguments are those of the compiled ops."""

from __future__ import annotations

import torch
from torch import Tensor

_NAIVE, _LINEAR = 0, 1  # methods of soft NMS; the third is Gaussian


def _overlaps(box: Tensor, others: Tensor, offset: int = 0) -> Tensor:
    """Return the intersection over union (N,) of a box (4,) with others (N, 4)."""
    sizes = (torch.minimum(box[2:], others[:, 2:]) - torch.maximum(box[:2], others[:, :2]) + offset).clamp(min=0)
    common = sizes[:, 0] * sizes[:, 1]
    own = (box[2] - box[0] + offset) * (box[3] - box[1] + offset)
    areas = (others[:, 2] - others[:, 0] + offset) * (others[:, 3] - others[:, 1] + offset)
    return common / (own + areas - common)


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Return the numbers of the boxes that non-maximum suppression keeps, best first.

    Args:
        boxes: (N, 4).
        scores: (N,).
        iou_threshold: Boxes that overlap a better one by more are dropped.
        offset: 0, or 1 where a box includes its last pixel.
    """
    import torchvision

    if boxes.device.type == 'cpu' and boxes.dtype in (torch.float16, torch.bfloat16):
        boxes = boxes.float()
    if offset:
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    return torchvision.ops.nms(boxes, scores.to(boxes.dtype), iou_threshold)


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Lower the scores of boxes that overlap a better one, and drop those that fall below a limit.

    Args:
        boxes: (N, 4).
        scores: (N,).
        dets: (N, 5), filled with the boxes and lowered scores in the order of the answer.
        iou_threshold: Overlap from which the naive and linear methods act.
        sigma: Width of the Gaussian method.
        min_score: Boxes below it are dropped.
        method: 0 naive, 1 linear, 2 Gaussian.
        offset: 0, or 1 where a box includes its last pixel.

    Returns:
        The numbers (K,) of the boxes that are left, best first.
    """
    left = torch.arange(len(boxes))
    scores = scores.clone()
    order: list[int] = []
    while len(left):
        best = int(scores[left].argmax())
        index = int(left[best])
        dets[len(order), :4], dets[len(order), 4] = boxes[index], scores[index]
        order.append(index)
        left = torch.cat([left[:best], left[best + 1 :]])
        overlap = _overlaps(boxes[index], boxes[left], offset)
        if method == _NAIVE:
            weight = (overlap < iou_threshold).to(scores.dtype)
        elif method == _LINEAR:
            weight = torch.where(overlap >= iou_threshold, 1 - overlap, torch.ones_like(overlap))
        else:
            weight = torch.exp(-overlap.square() / sigma)
        scores[left] *= weight
        left = left[scores[left] >= min_score]
    return torch.tensor(order, dtype=torch.long)


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Group boxes with the better one that non-maximum suppression drops them for.

    Args:
        dets: Boxes and scores, (N, 5).
        iou_threshold: Boxes that overlap a better one by this much or more are dropped.

    Returns:
        Per box that is kept, best first: its number, then those of the boxes dropped for it, best first.
    """
    left = dets[:, 4].argsort(descending=True, stable=True)
    groups: list[list[int]] = []
    while len(left):
        first, rest = left[0], left[1:]
        dropped = _overlaps(dets[first, :4], dets[rest, :4]) >= iou_threshold
        groups.append([int(first), *rest[dropped].tolist()])
        left = rest[~dropped]
    return groups


def bbox_overlaps(boxes1: Tensor, boxes2: Tensor, ious: Tensor, mode: int, aligned: bool, offset: int) -> None:
    """Fill ``ious`` with the overlaps of two sets of boxes.

    Args:
        boxes1: (M, 4).
        boxes2: (N, 4); as many as ``boxes1`` where ``aligned``.
        ious: (M, N), or (M,) where ``aligned``.
        mode: 0 for intersection over union, 1 for intersection over the area of the first box.
        aligned: Whether box i meets box i only.
        offset: 0, or 1 where a box includes its last pixel.
    """
    first, second = (boxes1, boxes2) if aligned else (boxes1[:, None], boxes2[None])  # (M, 4) or (M, 1, 4), (1, N, 4)
    sizes = (torch.minimum(first[..., 2:], second[..., 2:]) - torch.maximum(first[..., :2], second[..., :2])) + offset
    common = sizes.clamp(min=0).prod(-1)
    areas = [(b[..., 2] - b[..., 0] + offset) * (b[..., 3] - b[..., 1] + offset) for b in (first, second)]
    base = areas[0] + areas[1] - common if mode == 0 else areas[0].expand_as(common)
    ious.copy_(common / base.clamp(min=offset or torch.finfo(common.dtype).tiny))
