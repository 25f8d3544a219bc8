"""Mask R-CNN on tensors: proposals, boxes of the proposals, masks of the boxes.

The selection between the stages is in the graph, so that its answers are selected boxes. mmdet clips boxes to the
image; here it is the input, with what an image is padded by.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

from emo_mm.errors import UserError
from emo_mm.predict.network import cached_priors
from emo_mm.predict.selection import clipped, is_larger, suppress, taken


class MaskRCNNNetwork(nn.Module):
    """Selected boxes, and the logits of their masks.

    Args:
        model: mmdet's ``MaskRCNN`` with the heads that its configs of ours have.

    Raises:
        UserError: If it is made of other parts.
    """

    kind = 'roi_masks'
    exported = 'roi_masks'
    selected = 'roi_masks'
    channels = None
    model: Any  # a toolbox's class, without types

    def __init__(self, model: Any) -> None:
        super().__init__()
        from mmdet.models.dense_heads import RPNHead
        from mmdet.models.detectors import MaskRCNN
        from mmdet.models.roi_heads import FCNMaskHead, SingleRoIExtractor, StandardRoIHead
        from mmdet.models.roi_heads.bbox_heads import BBoxHead

        head = getattr(model, 'roi_head', None)
        known = [(model, MaskRCNN), (getattr(model, 'rpn_head', None), RPNHead), (head, StandardRoIHead)]
        known += [(getattr(head, 'mask_head', None), FCNMaskHead)]
        known += [(getattr(head, f'{part}_roi_extractor', None), SingleRoIExtractor) for part in ('bbox', 'mask')]
        wrong = [type(part).__name__ for part, kind in known if type(part) is not kind]
        box_head = getattr(head, 'bbox_head', None)
        if not isinstance(box_head, BBoxHead) or type(box_head).predict_by_feat is not BBoxHead.predict_by_feat:
            wrong.append(type(box_head).__name__)
        if wrong:
            raise UserError(f'{wrong[0]} predicts in a way of its own; known is Mask R-CNN as mmdet has it')
        self.model = model
        self._known: dict[Any, Tensor] = {}

    def decode(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return selected boxes, labels and masks.

        Args:
            images: Normalised images, (N, 3, H, W).

        Returns:
            boxes: (N, K, 5), boxes in pixels of the input and scores, best first; zeros where there is none.
            labels: (N, K); -1 where there is none.
            masks: (N, K, m, m), logits over the boxes.
        """
        size = (images.shape[2], images.shape[3])
        maps = self.model.extract_feat(images)
        boxes, labels = self._boxes(maps, *self._proposals(maps, size), size)
        return boxes, labels, self._masks(maps, boxes[..., :4], labels)

    @staticmethod
    def outputs(decoded: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the outputs in what :meth:`decode` returned."""
        return decoded

    def _proposals(self, maps: tuple[Tensor, ...], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return the proposals of all levels together, (N, R, 4), and whether there is one, (N, R)."""
        head, how = self.model.rpn_head, self.model.rpn_head.test_cfg
        logits, deltas = head(maps)
        sizes = [x.shape[-2:] for x in logits]
        counts = [x[0].numel() for x in logits]  # a·h·w
        anchors = cached_priors(head, sizes, logits[0], self._known).split(counts)
        boxes, scores, groups = [], [], []
        for level, (classes, delta, anchor) in enumerate(zip(logits, deltas, anchors, strict=True)):
            batch = classes.shape[0]
            flat = classes.permute(0, 2, 3, 1).reshape(batch, -1)  # N,a,h,w -> N,h·w·a
            best, index = flat.sigmoid().topk(min(how.nms_pre, flat.shape[1]))
            chosen = taken(delta.permute(0, 2, 3, 1).reshape(batch, -1, 4), index)  # N,a·4,h,w -> N,k,4
            decoded = head.bbox_coder.decode(anchor[index.flatten()], chosen.reshape(-1, 4))  # N·k,4
            boxes.append(clipped(decoded.reshape(batch, -1, 4), size))
            scores.append(best)
            groups.append(torch.full_like(index, level))
        box, score = torch.cat(boxes, 1), torch.cat(scores, 1)
        valid = is_larger(box, how.min_bbox_size)
        top, order = suppress(box, score, torch.cat(groups, 1), valid, size, how.nms.iou_threshold, how.max_per_img)
        there = top > 0
        return taken(box, order) * there[..., None], there

    def _boxes(
        self, maps: tuple[Tensor, ...], proposals: Tensor, there: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Return the selected boxes with scores, (N, K, 5), and their labels, (N, K)."""
        head, how = self.model.roi_head.bbox_head, self.model.roi_head.test_cfg
        batch, count = proposals.shape[:2]
        rois = _numbered(proposals)  # N·R,5
        classes, deltas = head(_pooled(self.model.roi_head.bbox_roi_extractor, maps, rois))
        scores = classes.softmax(-1)[:, :-1].reshape(batch, count, -1)  # N,R,C
        decoded = head.bbox_coder.decode(rois[:, 1:], deltas).reshape(batch, count, -1, 4)  # N,R,C or 1,4
        boxes = clipped(decoded.expand(-1, -1, scores.shape[-1], -1), size).flatten(1, 2)  # N,R·C,4
        labels = torch.arange(scores.shape[-1], device=scores.device).expand_as(scores).flatten(1)  # N,R·C
        valid = (scores > how.score_thr) & there[..., None]
        flat = scores.flatten(1)
        top, order = suppress(boxes, flat, labels, valid.flatten(1), size, how.nms.iou_threshold, how.max_per_img)
        kept = top > 0
        found = torch.cat([taken(boxes, order), top[..., None]], -1) * kept[..., None]
        return found, torch.where(kept, labels.gather(1, order), -1)

    def _masks(self, maps: tuple[Tensor, ...], boxes: Tensor, labels: Tensor) -> Tensor:
        """Return the logits of the masks of boxes (N, K, 4) of classes (N, K): (N, K, m, m)."""
        head = self.model.roi_head
        found = head.mask_head(_pooled(head.mask_roi_extractor, maps, _numbered(boxes)))  # N·K,C,m,m
        side = found.shape[-2:]
        if found.shape[1] == 1:
            return found.reshape(*labels.shape, *side)
        chosen = labels.clamp(min=0).reshape(-1, 1, 1, 1).expand(-1, 1, *side)
        return found.gather(1, chosen).reshape(*labels.shape, *side)  # N·K,1,m,m -> N,K,m,m


def _numbered(boxes: Tensor) -> Tensor:
    """Return boxes (N, R, 4) with the numbers of their images before them, (N * R, 5)."""
    batch, count = boxes.shape[:2]
    images = torch.arange(batch, dtype=boxes.dtype, device=boxes.device)[:, None, None].expand(batch, count, 1)
    return torch.cat([images, boxes], -1).reshape(-1, 5)


def _pooled(extractor: Any, maps: tuple[Tensor, ...], rois: Tensor) -> Tensor:
    """Return the maps in regions (R, 5), each from the level that suits its size: (R, C, s, s)."""
    layers = extractor.roi_layers
    maps = maps[: len(layers)]
    area = (rois[:, 3] - rois[:, 1]) * (rois[:, 4] - rois[:, 2])
    level = torch.floor(torch.log2(area.sqrt() / extractor.finest_scale + 1e-6)).clamp(0, len(maps) - 1)
    pooled = rois.new_zeros(rois.shape[0], maps[0].shape[1], *layers[0].output_size)
    for number, (layer, x) in enumerate(zip(layers, maps, strict=True)):
        chosen = (level == number).nonzero().squeeze(1)
        regions = roi_align(
            x, rois[chosen], layer.output_size, layer.spatial_scale, layer.sampling_ratio, layer.aligned
        )
        pooled = pooled.index_put((chosen,), regions)
    return pooled
