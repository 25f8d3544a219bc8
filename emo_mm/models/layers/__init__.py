"""Bricks that know nothing of the networks built from them."""

from emo_mm.models.layers.irmb import IRMB
from emo_mm.models.layers.norm import LayerNorm2d, batch_norm
from emo_mm.models.layers.stem import EMOStem
from emo_mm.models.layers.window_attention import (
    multi_head_attention,
    window_grid,
    window_pad,
    window_partition,
    window_reverse,
)

__all__ = [
    'IRMB',
    'EMOStem',
    'LayerNorm2d',
    'batch_norm',
    'multi_head_attention',
    'window_grid',
    'window_pad',
    'window_partition',
    'window_reverse',
]
