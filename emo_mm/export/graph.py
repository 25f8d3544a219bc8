"""What an exported graph computes: from its input to boxes, label maps or probabilities."""

from __future__ import annotations

from pkgutil import resolve_name
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emo_mm.predict.network import flat_deltas, priors_of
from emo_mm.predict.selection import select, taken
from emo_mm.runtime.metadata import OUTPUT_NAMES, Metadata
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
        if self.network.selected is not None:
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
        spec, kind = self.metadata.input, self.metadata.output.kind
        if kind == self.network.kind == self.network.selected:
            return self.network.decode(images)
        open_sides = spec.height is None or spec.width is None
        *found, counts = (
            self._decode_by_level(images) if open_sides and kind == 'boxes' else self.network.decode(images)
        )
        if kind == self.network.selected:
            return self._selected(images, found, counts)
        if len(self.metadata.output.names) == len(OUTPUT_NAMES[kind]):
            return tuple(found)
        levels = [torch.full((count,), level, dtype=torch.int64) for level, count in enumerate(counts)]
        return (*found, torch.cat(levels))  # A

    def _selected(self, images: Tensor, found: list[Tensor], counts: list[int]) -> tuple[Tensor, ...]:
        assert self.metadata.nms is not None  # detectors have it
        boxes, scores, *rest = found
        chosen = select(boxes, scores, counts, (images.shape[2], images.shape[3]), self.metadata.nms)
        if not rest:
            return chosen.boxes, chosen.labels
        kernels, prototypes = rest
        return chosen.boxes, chosen.labels, self.network.masks(taken(kernels, chosen.anchors), prototypes)

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


def _upsampled(logits: Tensor, images: Tensor, align_corners: bool) -> Tensor:
    return F.interpolate(logits, size=images.shape[2:], mode='bilinear', align_corners=align_corners)


def _labels(logits: Tensor, images: Tensor, align_corners: bool) -> Tensor:
    return _upsampled(logits, images, align_corners).argmax(1).to(torch.int32)  # N,C,h,w -> N,H,W
