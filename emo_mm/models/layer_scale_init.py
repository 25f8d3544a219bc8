"""Where layer scale starts, for networks that are trained from nothing in a short time."""

from __future__ import annotations

from torch import nn

from emo_mm.models.layers import LayerScale
from emo_mm.registry import INITIALIZERS


@INITIALIZERS.register_module()
class LayerScaleInit:
    """Start every layer scale of a network at a value; anything else stays as PyTorch starts it.

    The published recipe trains for 300 epochs of ImageNet from a value of one millionth. Each stage then begins by
    hardly passing a signal, which costs hundreds of iterations that a training of minutes does not have. For it:
    ``init_cfg=dict(type='emo_mm.LayerScaleInit', value=1.0)`` in the backbone.

    Args:
        value: Where each gain starts.
    """

    def __init__(self, value: float) -> None:
        self.value = value

    def __call__(self, module: nn.Module) -> None:
        """Set the gains of a network."""
        for part in module.modules():
            if isinstance(part, LayerScale):
                nn.init.constant_(part.gamma, self.value)
