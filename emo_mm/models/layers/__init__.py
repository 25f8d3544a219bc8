"""Bricks that know nothing of the networks built from them."""

from emo_mm.models.layers.i2rmb import I2RMB, LayerScale
from emo_mm.models.layers.irmb import IRMB
from emo_mm.models.layers.norm import LayerNorm2d, batch_norm
from emo_mm.models.layers.stem import EMOStem, EMOv2Stem
from emo_mm.models.layers.window_attention import (
    hybrid_window_attention,
    multi_head_attention,
    window_grid,
    window_pad,
    window_partition,
    window_reverse,
)

__all__ = [
    'I2RMB',
    'IRMB',
    'EMOStem',
    'EMOv2Stem',
    'LayerNorm2d',
    'LayerScale',
    'batch_norm',
    'hybrid_window_attention',
    'multi_head_attention',
    'window_grid',
    'window_pad',
    'window_partition',
    'window_reverse',
]
