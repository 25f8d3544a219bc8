"""A light GFL head: depthwise towers that the levels share, with norms of their own."""

from __future__ import annotations

import warnings
from copy import deepcopy
from typing import Any

from mmcv.cnn import DepthwiseSeparableConvModule
from mmdet.models.dense_heads import GFLHead
from torch import Tensor, nn

from emo_mm.registry import MODELS

_KERNEL = 5  # of the depthwise convolutions: as far as two of 3x3 see, for a fraction of the time


@MODELS.register_module()
class SepNormGFLHead(GFLHead):
    """mmdet's ``GFLHead`` with depthwise separable towers, and a BatchNorm for each level after each convolution.

    The levels share the convolutions. One BatchNorm for all levels would mix their statistics, and the GroupNorm that
    GFL has in its place cannot be folded into the convolutions for inference. Depthwise towers with a kernel of 5x5
    are those of PicoDet (arXiv:2111.00902).
    """

    cls_convs: Any  # a list for each level of a list of layers
    reg_convs: Any

    def _init_layers(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', UserWarning)  # mmdet's own head reads what mmdet calls deprecated
            super()._init_layers()
        self.cls_convs = self._towers()
        self.reg_convs = self._towers()

    def _towers(self) -> nn.ModuleList:
        """Return the layers of each level: the same convolutions, other norms."""
        first: Any = nn.ModuleList(self._layer(number) for number in range(self.stacked_convs))
        levels: list[Any] = [first, *(deepcopy(first) for _ in self.prior_generator.strides[1:])]
        for level in levels[1:]:
            for layer, shared in zip(level, first, strict=True):
                layer.depthwise_conv.conv = shared.depthwise_conv.conv
                layer.pointwise_conv.conv = shared.pointwise_conv.conv
        return nn.ModuleList(levels)

    def _layer(self, number: int) -> Any:
        return DepthwiseSeparableConvModule(
            self.feat_channels if number else self.in_channels,
            self.feat_channels,
            _KERNEL,
            padding=_KERNEL // 2,
            norm_cfg=self.norm_cfg,
            act_cfg=dict(type='SiLU', inplace=True),
        )

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
