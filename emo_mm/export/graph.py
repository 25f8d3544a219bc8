"""What an exported graph computes: from its input to boxes, label maps or probabilities."""

from __future__ import annotations

from pkgutil import resolve_name
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import nms

from emo_mm.predict.network import flat_deltas, priors_of
from emo_mm.runtime.metadata import NMS, Metadata
from emo_mm.tasks import TASKS


class Graph(nn.Module):
    """A network with what surrounds it in a deployed file.

    Args:
        model: The detector, segmenter or classifier.
        metadata: Input and outputs.

    Raises:
        UserError: If the model predicts in a way that is not known.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, model: nn.Module, metadata: Metadata) -> None:
        super().__init__()
        self.network: Any = resolve_name(TASKS[metadata.task].network)(model)
        self.metadata = metadata
        how = metadata.preprocessing
        # 3 -> 1,3,1,1
        self.register_buffer('mean', torch.tensor(how.mean).view(1, 3, 1, 1))
        self.register_buffer('scale', 1 / torch.tensor(how.std).view(1, 3, 1, 1))
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs of ``metadata.output`` for the input of ``metadata.input``."""
        images = self._normalized(images)
        if TASKS[self.metadata.task].finds_boxes:
            return self._boxes(images)
        found = self.network(images)
        if self.metadata.output.kind == 'labels':
            return (_labels(found, images, self.metadata.align_corners),)
        return (found,)

    def logits(self, images: Tensor) -> Tensor:
        """Return a segmenter's logits at the size of the input, for images as :meth:`forward` takes them."""
        images = self._normalized(images)
        return _upsampled(self.network(images), images, self.metadata.align_corners)

    def _normalized(self, images: Tensor) -> Tensor:
        """Return normalised images, (N, 3, H, W), for the input of ``metadata.input``."""
        if self.metadata.input.layout == 'NHWC':
            images = images.permute(0, 3, 1, 2)  # N,H,W,3 -> N,3,H,W
        if self.metadata.input.normalized_inside:
            images = (images.float() - self.mean) * self.scale
        return images

    def _boxes(self, images: Tensor) -> tuple[Tensor, ...]:
        spec = self.metadata.input
        if spec.height is None or spec.width is None:
            boxes, scores, counts = self._decode_by_level(images)
        else:
            boxes, scores, counts = self.network.decode(images)
        if self.metadata.output.kind == 'detections':
            assert self.metadata.nms is not None
            return select(boxes, scores, counts, (images.shape[2], images.shape[3]), self.metadata.nms)
        if len(self.metadata.output.names) == 2:
            return boxes, scores
        levels = [torch.full((count,), level, dtype=torch.int64) for level, count in enumerate(counts)]
        return boxes, scores, torch.cat(levels)  # A

    def _decode_by_level(self, images: Tensor) -> tuple[Tensor, Tensor, list[int]]:
        """Decode each level by itself: tracing with open axes, their sum would be reasoned about at every step."""
        head = self.network.model.bbox_head
        logits, deltas = head(self.network.model.extract_feat(images))
        sizes = [level.shape[-2:] for level in logits]
        levels = []
        priors, strides = priors_of(head, sizes, deltas[0]), head.prior_generator.strides
        for anchors, classes, delta, stride in zip(priors, logits, deltas, strides, strict=True):
            # N,a·c,h,w -> N,h,w,a·c -> N·h·w·a,c
            classes = classes.permute(0, 2, 3, 1).reshape(-1, head.cls_out_channels)
            scores = classes.sigmoid() if head.use_sigmoid_cls else classes.softmax(-1)[..., :-1]
            delta = flat_deltas(head, delta, stride[0]).reshape(-1, 4)
            # N,h·w·a,p -> N·h·w·a,p; p is 4 for anchors and 2 for points
            repeated = anchors.expand(images.shape[0], -1, -1).reshape(-1, anchors.shape[-1])
            boxes = head.bbox_coder.decode(repeated, delta)
            levels.append((boxes.view(images.shape[0], -1, 4), scores.view(images.shape[0], -1, scores.shape[-1])))
        boxes, scores = (torch.cat(parts, 1) for parts in zip(*levels, strict=True))
        return boxes, scores, [part.shape[1] for part, _ in levels]


def select(boxes: Tensor, scores: Tensor, counts: list[int], size: tuple[int, int], how: NMS) -> tuple[Tensor, Tensor]:
    """Select boxes as mmdet does, for all images of a batch at once.

    Args:
        boxes: (N, A, 4).
        scores: (N, A, C).
        counts: Anchors in each level, which sum to A.
        size: Height and width of the input.
        how: Thresholds and numbers.

    Returns:
        found: (N, K, 5) boxes and scores, best first; zeros where there is none.
        labels: (N, K); -1 where there is none.
    """
    height, width = size
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
    labels = index % classes
    corner = boxes.new_tensor([width, height, width, height])
    boxes = boxes.gather(1, (index // classes)[..., None].expand(-1, -1, 4))  # N,A,4 -> N,M,4
    boxes = torch.minimum(boxes.clamp(min=0), corner)
    sides = boxes[..., 2:] - boxes[..., :2]
    valid = (best > how.score_threshold) & (sides > how.min_size).all(-1)
    chosen = valid.flatten().nonzero().squeeze(1)  # indices into N·M
    # Boxes of different classes lie side by side and those of different images one below the other, so that one
    # suppression serves them all. Shifting on both axes keeps the coordinates small, and float32 exact enough.
    across = torch.zeros_like(labels) if how.class_agnostic else labels
    down = torch.arange(boxes.shape[0], device=boxes.device)[:, None].expand_as(labels)
    shift = torch.stack([across * (width + 1), down * (height + 1)], -1).to(boxes.dtype)  # N,M,2
    apart = (boxes + torch.cat([shift, shift], -1)).flatten(0, 1)  # N,M,4 -> N·M,4
    kept = chosen[nms(apart[chosen], best.flatten()[chosen], how.iou_threshold)]
    # dropped ones sink below every score
    alive = torch.full_like(best.flatten(), -1).index_put((kept,), best.flatten()[kept]).view_as(best)
    top, order = alive.topk(min(how.max_per_image, alive.shape[1]))  # N,K
    there = top > 0
    boxes = boxes.gather(1, order[..., None].expand(-1, -1, 4))
    found = torch.cat([boxes, top[..., None]], -1) * there[..., None]
    return found, torch.where(there, labels.gather(1, order), -1)


def _upsampled(logits: Tensor, images: Tensor, align_corners: bool) -> Tensor:
    return F.interpolate(logits, size=images.shape[2:], mode='bilinear', align_corners=align_corners)


def _labels(logits: Tensor, images: Tensor, align_corners: bool) -> Tensor:
    return _upsampled(logits, images, align_corners).argmax(1).to(torch.int32)  # N,C,h,w -> N,H,W
