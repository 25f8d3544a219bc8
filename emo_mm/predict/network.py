"""The part of a model that runs on tensors: from normalised images to decoded boxes, logits or probabilities.

What an exported graph holds and what prediction with PyTorch runs are the same modules.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.compiler import is_compiling

from emo_mm.errors import UserError


class DetectorNetwork(nn.Module):
    """Boxes and scores of a detector of one stage.

    Args:
        model: An mmdet detector with a dense head that has anchors or points.

    Raises:
        UserError: If its head predicts in a way of its own.
    """

    kind = 'boxes'
    exported = 'boxes'
    selected = 'detections'
    channels = None
    model: Any  # a toolbox's class, without types

    def __init__(self, model: Any) -> None:
        super().__init__()
        from mmdet.models.dense_heads import GFLHead
        from mmdet.models.dense_heads.base_dense_head import BaseDenseHead

        from emo_mm.models.heads.ssdlite_head import SSDLiteHead

        head = getattr(model, 'bbox_head', None)
        # SSDLiteHead selects the boxes of a batch at once, the same ones; GFLHead decodes as flat_deltas does
        known = (BaseDenseHead, SSDLiteHead, GFLHead)
        own_way = not isinstance(head, BaseDenseHead) or any(
            getattr(type(head), name) not in [getattr(one, name) for one in known]
            for name in ('predict', 'predict_by_feat', '_predict_by_feat_single', '_bbox_post_process')
        )
        if own_way or not hasattr(head, 'bbox_coder'):
            name = type(model if head is None else head).__name__
            raise UserError(
                f'{name} predicts in a way of its own; known are heads of one stage: SSDLite, RetinaNet, RTMDet, GFL'
            )
        self.model = model
        self._known: dict[Any, Tensor] = {}

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the boxes of all anchors or points, level by level, and their scores.

        Args:
            images: Normalised images, (N, 3, H, W).

        Returns:
            boxes: (N, A, 4); left, top, right, bottom in pixels of the input, not clipped to it.
            scores: (N, A, C) in 0 to 1, without the background.
        """
        boxes, scores, _ = self.decode(images)
        return boxes, scores

    def decode(self, images: Tensor) -> tuple[Tensor, Tensor, list[int]]:
        """Return boxes and scores as :meth:`forward` does, and the number of anchors in each level."""
        head = self.model.bbox_head
        logits, deltas = head(self.model.extract_feat(images))
        batch = images.shape[0]
        sizes = [level.shape[-2:] for level in logits]
        anchors = cached_priors(head, sizes, deltas[0], self._known)  # A,4 or A,2
        # N,a*c,h,w -> N,h,w,a*c -> N,h*w*a,c
        flat = [x.permute(0, 2, 3, 1).reshape(batch, -1, head.cls_out_channels) for x in logits]
        classes = torch.cat(flat, 1)
        strides = head.prior_generator.strides
        delta = torch.cat([flat_deltas(head, x, stride[0]) for x, stride in zip(deltas, strides, strict=True)], 1)
        scores = classes.sigmoid() if head.use_sigmoid_cls else classes.softmax(-1)[..., :-1]
        # The coder takes one list of boxes: N,A,p -> N*A,p and back; p is 4 for anchors and 2 for points.
        repeated = anchors.expand(batch, -1, -1).reshape(-1, anchors.shape[-1])
        boxes = head.bbox_coder.decode(repeated, delta.reshape(-1, 4)).reshape(batch, -1, 4)
        return boxes, scores, [x.shape[1] for x in flat]

    @staticmethod
    def outputs(decoded: tuple[Tensor, Tensor, list[int]]) -> tuple[Tensor, ...]:
        """Return boxes, scores and the level of each anchor, (A,), of what :meth:`decode` returned."""
        boxes, scores, counts = decoded
        return boxes, scores, torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))


def cached_priors(head: Any, sizes: list[torch.Size], like: Tensor, known: dict[Any, Tensor]) -> Tensor:
    """Return the anchors or points of all levels, which images of one size share; a graph holds them as constants.

    Args:
        head: As for :func:`priors_of`.
        sizes: Likewise.
        like: Likewise.
        known: Those of the last size, which are kept here.
    """
    if is_compiling():  # exporting included
        return torch.cat(priors_of(head, sizes, like))
    key = (tuple(sizes), like.dtype, like.device)
    if key not in known:
        known.clear()
        known[key] = torch.cat(priors_of(head, sizes, like))
    return known[key]


def priors_of(head: Any, sizes: list[torch.Size], like: Tensor) -> list[Tensor]:
    """Return what boxes are decoded from in each level: anchors (A, 4), or points (A, 2).

    Args:
        head: An mmdet head; GFL's has anchors for its assignment only, and decodes from their centres.
        sizes: Height and width of the maps.
        like: A tensor of the type and device that are wanted.
    """
    levels = head.prior_generator.grid_priors(sizes, dtype=like.dtype, device=like.device)
    return [head.anchor_center(level) for level in levels] if hasattr(head, 'integral') else levels


def flat_deltas(head: Any, deltas: Tensor, stride: int) -> Tensor:
    """Return the deltas or distances of a level, (N, h * w * a, 4).

    Args:
        head: An mmdet head; GFL's answers with distributions of distances, in strides, whose means are taken.
        deltas: Its answer, (N, a * 4, h, w), or (N, 4 * (reg_max + 1), h, w).
        stride: Pixels between the cells of the level.
    """
    rows = deltas.permute(0, 2, 3, 1)  # -> N,h,w,...
    if hasattr(head, 'integral'):
        # what head.integral does, without a conversion of types that ONNX's exporter stumbles on
        shares = rows.reshape(-1, head.integral.reg_max + 1).softmax(-1)  # N·h·w·4,reg_max+1
        rows = F.linear(shares, head.integral.project[None]) * stride  # -> N·h·w·4,1
    return rows.reshape(deltas.shape[0], -1, 4)


class _OneOutput(nn.Module):
    """What networks share that give one tensor."""

    selected = None
    channels = None
    model: Any  # a toolbox's class, without types

    def decode(self, images: Tensor) -> Tensor:
        """Return what :meth:`forward` does."""
        return self(images)

    @staticmethod
    def outputs(decoded: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs in what :meth:`decode` returned."""
        return (decoded,)


class SegmenterNetwork(_OneOutput):
    """Logits of a segmenter, at the resolution of its head.

    Args:
        model: An mmseg ``EncoderDecoder`` with one head that predicts whole images.

    Raises:
        UserError: If it predicts in another way.
    """

    kind = 'logits'
    exported = 'labels'

    def __init__(self, model: Any) -> None:
        super().__init__()
        from mmseg.models.segmentors import EncoderDecoder

        if type(model) is not EncoderDecoder or model.test_cfg.get('mode') != 'whole' or model.out_channels < 2:
            raise UserError(
                f'{type(model).__name__} with test_cfg={dict(model.test_cfg)} and {model.out_channels} output channels '
                "is not known; known is EncoderDecoder with test_cfg=dict(mode='whole') and two classes or more"
            )
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, C, h, w) for normalised images (N, 3, H, W)."""
        return self.model.decode_head(self.model.extract_feat(images))


class ClassifierNetwork(_OneOutput):
    """Probabilities of a classifier.

    Args:
        model: An mmpretrain ``ImageClassifier`` with a head of one label.
    """

    kind = 'probabilities'
    exported = 'probabilities'

    def __init__(self, model: Any) -> None:
        super().__init__()
        from mmpretrain.models import ClsHead, ImageClassifier

        if not isinstance(model, ImageClassifier) or not isinstance(getattr(model, 'head', None), ClsHead):
            raise UserError(f'{type(model).__name__} is not known; known is ImageClassifier with a head of one label')
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Return probabilities (N, C) for normalised images (N, 3, H, W)."""
        return self.model(images, mode='tensor').softmax(-1)
