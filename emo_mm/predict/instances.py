"""Instance segmenters that run on tensors: boxes, and for each object the kernels that make its mask."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from emo_mm.errors import UserError
from emo_mm.predict.network import cached_priors, flat_deltas
from emo_mm.predict.two_stages import MaskRCNNNetwork
from emo_mm.runtime.masks import layer_shapes

_REACH = 8  # cells in which the places that kernels take are measured, as RTMDet-Ins has them


def instance_network(model: Any) -> nn.Module:
    """Return the part of an instance segmenter that runs on tensors.

    Args:
        model: An mmdet detector with masks.

    Raises:
        UserError: If it predicts in a way that is not known.
    """
    return MaskRCNNNetwork(model) if hasattr(model, 'roi_head') else RTMDetInsNetwork(model)


class RTMDetInsNetwork(nn.Module):
    """Boxes, scores, kernels and prototypes of RTMDet-Ins.

    Args:
        model: An mmdet detector with the head of RTMDet-Ins.

    Raises:
        UserError: If its head predicts in a way of its own.
    """

    kind = 'instances'
    exported = 'instances'
    selected = 'masks'
    model: Any  # a toolbox's class, without types

    def __init__(self, model: Any) -> None:
        super().__init__()
        from mmdet.models.dense_heads.rtmdet_ins_head import RTMDetInsHead

        head = getattr(model, 'bbox_head', None)
        methods = (
            '_predict_by_feat_single',
            '_bbox_mask_post_process',
            '_mask_predict_by_feat_single',
        )
        if not isinstance(head, RTMDetInsHead) or any(
            getattr(type(head), name) is not getattr(RTMDetInsHead, name) for name in methods
        ):
            name = type(model if head is None else head).__name__
            raise UserError(f'{name} predicts masks in a way of its own; known are RTMDet-Ins and Mask R-CNN')
        self.model = model
        self.channels = int(head.dyconv_channels)
        self._known: dict[Any, Tensor] = {}

    def decode(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, list[int]]:
        """Return what there is of all points, level by level.

        Args:
            images: Normalised images, (N, 3, H, W).

        Returns:
            boxes: (N, A, 4); left, top, right, bottom in pixels of the input, not clipped to it.
            scores: (N, A, C) in 0 to 1.
            kernels: (N, A, P), as :func:`emo_mm.runtime.masks.logits_of` takes them.
            prototypes: (N, M, h, w).
            counts: Points in each level, which sum to A.
        """
        head, batch = self.model.bbox_head, images.shape[0]
        logits, distances, kernels, prototypes = head(self.model.extract_feat(images))
        strides = [stride[0] for stride in head.prior_generator.strides]
        points = cached_priors(head, [x.shape[-2:] for x in logits], distances[0], self._known)  # A,2
        # N,c,h,w -> N,h,w,c -> N,h·w,c
        scores = [x.permute(0, 2, 3, 1).reshape(batch, -1, head.cls_out_channels).sigmoid() for x in logits]
        counts = [x.shape[1] for x in scores]
        flat = torch.cat([flat_deltas(head, x, stride) for x, stride in zip(distances, strides, strict=True)], 1)
        repeated = points.expand(batch, -1, -1).reshape(-1, 2)  # A,2 -> N·A,2: the coder takes one list
        boxes = head.bbox_coder.decode(repeated, flat.reshape(-1, 4)).reshape(batch, -1, 4)
        rows = torch.cat([x.permute(0, 2, 3, 1).reshape(batch, -1, head.num_gen_params) for x in kernels], 1)
        stride_of = torch.cat([rows.new_full((n,), float(s)) for n, s in zip(counts, strides, strict=True)])  # A
        placed = self._placed(rows, points / strides[0], stride_of / strides[0], prototypes.shape[1])
        return boxes, torch.cat(scores, 1), placed, prototypes, counts

    def _placed(self, kernels: Tensor, points: Tensor, strides: Tensor, prototypes: int) -> Tensor:
        """Return kernels that take the places of cells in the prototypes, in place of those relative to their point.

        Args:
            kernels: (N, A, P), of RTMDet-Ins: for each channel of the first layer two weights of how far a cell lies
                from the point, in ``_REACH`` strides of its level, and those of the prototypes.
            points: (A, 2), in cells of the prototypes.
            strides: (A,), likewise.
            prototypes: Their number.
        """
        shapes = layer_shapes(kernels.shape[-1], prototypes + 2, self.channels)
        weights = sum(rows * columns for rows, columns in shapes)
        first = kernels[..., : self.channels * (prototypes + 2)]
        # N,A,D·(M+2) -> N,A,D,M+2
        first = first.reshape(*first.shape[:2], self.channels, prototypes + 2)
        by_place = first[..., :2] / (_REACH * strides)[:, None, None]
        bias = kernels[..., weights : weights + self.channels] + (by_place * points[:, None]).sum(-1)  # N,A,D
        first = torch.cat([-by_place, first[..., 2:]], -1).flatten(2)  # -> N,A,D·(M+2)
        inner = kernels[..., self.channels * (prototypes + 2) : weights]
        return torch.cat([first, inner, bias, kernels[..., weights + self.channels :]], -1)

    @staticmethod
    def outputs(decoded: tuple[Tensor, Tensor, Tensor, Tensor, list[int]]) -> tuple[Tensor, ...]:
        """Return the outputs in what :meth:`decode` returned, with the level of each point, (A,)."""
        *tensors, counts = decoded
        return *tensors, torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))

    def masks(self, kernels: Tensor, prototypes: Tensor) -> Tensor:
        """Return the logits of the masks of objects, as :func:`emo_mm.runtime.masks.logits_of` does.

        Args:
            kernels: (N, K, P).
            prototypes: (N, M, h, w).

        Returns:
            (N, K, h, w).
        """
        batch, count, height, width = prototypes.shape
        rows = torch.arange(height, device=kernels.device, dtype=kernels.dtype)[:, None].expand(height, width)
        columns = torch.arange(width, device=kernels.device, dtype=kernels.dtype)[None].expand(height, width)
        places = torch.stack([columns, rows])[None].expand(batch, 2, height, width)
        values = torch.cat([places, prototypes], 1).flatten(2)[:, None]  # N,M+2,h,w -> N,1,M+2,h·w
        shapes = layer_shapes(kernels.shape[-1], count + 2, self.channels)
        pieces = kernels.split([a * b for a, b in shapes] + [a for a, _ in shapes], -1)
        for layer, (out, into) in enumerate(shapes):
            weights = pieces[layer].reshape(batch, -1, out, into)  # N,K,out·into -> N,K,out,into
            values = weights @ values + pieces[len(shapes) + layer][..., None]  # N,K,out,h·w
            values = values.relu() if layer < len(shapes) - 1 else values
        return values.reshape(batch, -1, height, width)  # N,K,1,h·w -> N,K,h,w
