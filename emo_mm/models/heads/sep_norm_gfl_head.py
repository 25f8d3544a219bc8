"""A GFL head whose levels share convolutions and have norms of their own."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from mmdet.models.dense_heads import GFLHead
from torch import Tensor, nn

from emo_mm.registry import MODELS


@MODELS.register_module()
class SepNormGFLHead(GFLHead):
    """mmdet's ``GFLHead`` with a BatchNorm for each level after each shared convolution, as RTMDet's head has them.

    One BatchNorm for all levels would mix their statistics, and the GroupNorm that GFL has in its place cannot be
    folded into the convolutions for inference.
    """

    cls_convs: Any  # a list for each level of a list of layers
    reg_convs: Any

    def _init_layers(self) -> None:
        super()._init_layers()
        levels = len(self.prior_generator.strides)
        self.cls_convs = _for_each_level(self.cls_convs, levels)
        self.reg_convs = _for_each_level(self.reg_convs, levels)

    def forward(self, x: tuple[Tensor, ...]) -> tuple[list[Tensor], list[Tensor]]:
        """Return scores (N, C, H, W) and distributions of distances (N, 4 * (reg_max + 1), H, W) of each level."""
        scores, distances = [], []
        for feats, cls_convs, reg_convs, scale in zip(x, self.cls_convs, self.reg_convs, self.scales, strict=True):
            cls_feats, reg_feats = feats, feats
            for conv in cls_convs:
                cls_feats = conv(cls_feats)
            for conv in reg_convs:
                reg_feats = conv(reg_feats)
            scores.append(self.gfl_cls(cls_feats))
            distances.append(scale(self.gfl_reg(reg_feats)).float())
        return scores, distances


def _for_each_level(tower: nn.ModuleList, levels: int) -> nn.ModuleList:
    """Return the layers of a tower for each level: the same convolutions, other norms."""
    copies: list[Any] = [tower, *(deepcopy(tower) for _ in range(levels - 1))]
    for copy in copies[1:]:
        for layer, first in zip(copy, tower, strict=True):
            layer.conv = first.conv
    return nn.ModuleList(copies)
