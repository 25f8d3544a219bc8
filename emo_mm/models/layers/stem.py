"""The stems of the networks: image to stride 2."""

from __future__ import annotations

from torch import Tensor, nn

from emo_mm.models.layers.irmb import IRMB
from emo_mm.models.layers.norm import batch_norm
from emo_mm.models.layers.pointwise import PointwiseConv2d, SiLU


class EMOStem(nn.Module):
    """Stem of EMO: a strided convolution and an iRMB with squeeze-and-excitation, without norm, expansion or skip.

    Args:
        in_channels: Channels of the image.
        out_channels: Width of the stem.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1)
        # Not called 'norm': the recipes exempt parameters with 'norm' in their name from weight decay, and the
        # authors' name for this one has none.
        self.bn: nn.Module = batch_norm(out_channels)
        self.block = IRMB(out_channels, out_channels, expand_ratio=None, kernel_size=3, stride=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, ceil(H / 2), ceil(W / 2))."""
        return self.block(self.bn(self.conv(x)))


class EMOv2Stem(nn.Module):
    """Stem of EMOv2: a strided convolution, a depth-wise and a 1x1 one, with neither norm nor activation at the end.

    Args:
        in_channels: Channels of the image.
        out_channels: Width of the stem.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1)
        self.norm: nn.Module = batch_norm(out_channels)
        self.act: nn.Module = SiLU()
        self.dw_conv = nn.Conv2d(out_channels, out_channels, 3, padding=1, groups=out_channels, bias=False)
        self.dw_norm: nn.Module = batch_norm(out_channels)
        self.dw_act: nn.Module = SiLU()
        self.proj: nn.Conv2d = PointwiseConv2d(out_channels, out_channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, ceil(H / 2), ceil(W / 2))."""
        x = self.act(self.norm(self.conv(x)))
        return self.proj(self.dw_act(self.dw_norm(self.dw_conv(x))))
