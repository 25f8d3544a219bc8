"""EMO: Rethinking Mobile Block for Efficient Attention-based Models (https://arxiv.org/abs/2301.01146)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from emo_mm.models.layers import IRMB, EMOStem
from emo_mm.models.names import FAMILIES
from emo_mm.models.pyramid import MobilePyramid
from emo_mm.registry import MODELS

# Each row has one entry per stage; num_heads 0 is a stage without attention.
ARCHS: dict[str, dict[str, Any]] = {
    # 1.4M params
    '1m': dict(
        depths=(2, 2, 8, 3),
        embed_dims=(32, 48, 80, 168),
        expand_ratio=(2, 2.5, 3, 3.5),
        kernel_size=(3, 3, 5, 5),
        num_heads=(0, 0, 4, 8),
        drop_path_rate=0.04036,
    ),
    # 2.4M params
    '2m': dict(
        depths=(3, 3, 9, 3),
        embed_dims=(32, 48, 120, 200),
        expand_ratio=(2, 2.5, 3, 3.5),
        kernel_size=(3, 3, 5, 5),
        num_heads=(0, 0, 6, 10),
        drop_path_rate=0.05,
    ),
    # 5.1M params
    '5m': dict(
        depths=(3, 3, 9, 3),
        embed_dims=(48, 72, 160, 288),
        expand_ratio=(2, 3, 4, 4),
        kernel_size=(3, 3, 5, 5),
        num_heads=(0, 0, 5, 9),
        drop_path_rate=0.05,
    ),
    # 6.2M params
    '6m': dict(
        depths=(3, 3, 9, 3),
        embed_dims=(48, 72, 160, 320),
        expand_ratio=(2, 3, 4, 5),
        kernel_size=(3, 3, 5, 5),
        num_heads=(0, 0, 8, 10),
        drop_path_rate=0.05,
    ),
}
STEM_DIM = 24


@MODELS.register_module()
class EMO(MobilePyramid):
    """The EMO backbone, of inverted residual mobile blocks, whose attention mixes the input of the expansion.

    Arguments, attributes and errors are those of :class:`~emo_mm.models.pyramid.MobilePyramid`; ``arch`` is ``'1m'``,
    ``'2m'``, ``'5m'``, ``'6m'`` or a dict.
    """

    archs = ARCHS
    block = IRMB
    names = FAMILIES['EMO']

    @classmethod
    def make_stem(cls, in_channels: int, embed_dims: Sequence[int]) -> tuple[nn.Module, int]:
        """Return the stem, of the same width in all networks."""
        return EMOStem(in_channels, STEM_DIM), STEM_DIM
