"""EMOv2: Pushing 5M Vision Model Frontier (https://arxiv.org/abs/2412.06674)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from emo_mm.models.layers import I2RMB, EMOv2Stem
from emo_mm.models.names import FAMILIES
from emo_mm.models.pyramid import MobilePyramid
from emo_mm.registry import MODELS

# Each row has one entry per stage; num_heads 0 is a stage without attention.
ARCHS: dict[str, dict[str, Any]] = {
    # 1.5M params
    '1m': dict(
        depths=(2, 2, 8, 3),
        embed_dims=(32, 48, 80, 180),
        expand_ratio=(2, 2.5, 3, 3.5),
        kernel_size=(5, 5, 5, 5),
        num_heads=(0, 0, 4, 9),
        drop_path_rate=0.04036,
    ),
    # 2.4M params
    '2m': dict(
        depths=(3, 3, 9, 3),
        embed_dims=(32, 48, 120, 200),
        expand_ratio=(2, 2.5, 3, 3.5),
        kernel_size=(5, 5, 5, 5),
        num_heads=(0, 0, 6, 10),
        drop_path_rate=0.05,
    ),
    # 5.1M params
    '5m': dict(
        depths=(3, 3, 9, 3),
        embed_dims=(48, 72, 160, 288),
        expand_ratio=(2, 3, 4, 4),
        kernel_size=(5, 5, 5, 5),
        num_heads=(0, 0, 5, 9),
        drop_path_rate=0.05,
    ),
    # 20.2M params
    '20m': dict(
        depths=(3, 3, 13, 3),
        embed_dims=(64, 128, 320, 448),
        expand_ratio=(2, 3, 4, 4),
        kernel_size=(5, 5, 5, 5),
        num_heads=(0, 0, 10, 14),
        drop_path_rate=0.1,
    ),
}


@MODELS.register_module()
class EMOv2(MobilePyramid):
    """The EMOv2 backbone, of improved blocks: attention near and far on the expanded map, and layer scale.

    Arguments, attributes and errors are those of :class:`~emo_mm.models.pyramid.MobilePyramid`; ``arch`` is ``'1m'``,
    ``'2m'``, ``'5m'``, ``'20m'`` or a dict.
    """

    archs = ARCHS
    block = I2RMB
    names = FAMILIES['EMOv2']

    @classmethod
    def make_stem(cls, in_channels: int, embed_dims: Sequence[int]) -> tuple[nn.Module, int]:
        """Return the stem, of half the width of the first stage."""
        width = embed_dims[0] // 2
        return EMOv2Stem(in_channels, width), width
