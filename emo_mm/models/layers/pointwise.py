"""What works on one pixel, or one element, at a time: done in place, or as a matrix product, where that is faster."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.compiler import is_compiling

# Up to about this many multiply-adds the matrix product of MKL beats the convolution of oneDNN on a CPU, which pays for
# laying out its weights at every call; above, the convolution's blocking wins.
MATMUL_MACS = 2**23

_FLOAT16_MAX = 65504.0


def may_overwrite(x: Tensor) -> bool:
    """Tell whether a fresh tensor may be overwritten: not where autograd or an exporter wants it as it was."""
    return not (torch.is_grad_enabled() and x.requires_grad) and not is_compiling() and not torch.jit.is_tracing()


def bounded_in_float16(x: Tensor, share: float = 1.0) -> Tensor:
    """Return a map with its values cut to what float16 can hold, where it is computed in float16; else as it is.

    Mixed precision casts a map of float32 to float16, and what does not fit becomes infinite. In attention one such
    value makes the softmax of a whole window undefined.

    Args:
        x: The map.
        share: Part of the range of float16 that it may take, where it is summed up afterwards.
    """
    if x.dtype != torch.float16:
        device = x.device.type
        # PyTorch tells of any device's autocast since 2.4; tensors without values, which are counted with, have none.
        if x.is_meta or not hasattr(torch, 'get_autocast_dtype') or not torch.is_autocast_enabled(device):
            return x
        if torch.get_autocast_dtype(device) != torch.float16:
            return x
    bound = share * _FLOAT16_MAX
    return x.clamp(-bound, bound)


def silu(x: Tensor) -> Tensor:
    """Return x·sigmoid(x), in the memory of ``x`` where that is allowed: ``x`` must not be used again."""
    return F.silu(x, inplace=may_overwrite(x))


def gelu(x: Tensor) -> Tensor:
    """Return x·Φ(x) with the exact Gaussian Φ, in the memory of ``x`` where that is allowed."""
    return torch.ops.aten.gelu_(x) if may_overwrite(x) else F.gelu(x)


def add(x: Tensor, y: Tensor) -> Tensor:
    """Return x + y, in the memory of ``x`` where that is allowed: ``x`` must not be used again."""
    return x.add_(y) if may_overwrite(x) else x + y


def multiply(x: Tensor, y: Tensor) -> Tensor:
    """Return x·y, in the memory of ``x`` where that is allowed: ``x`` must not be used again."""
    return x.mul_(y) if may_overwrite(x) else x * y


class SiLU(nn.SiLU):
    """SiLU that overwrites its input where it may."""

    def forward(self, x: Tensor) -> Tensor:
        """Activate a tensor that is not used again."""
        return silu(x)


class GELU(nn.GELU):
    """GELU that overwrites its input where it may."""

    def forward(self, x: Tensor) -> Tensor:
        """Activate a tensor that is not used again."""
        return gelu(x)


class PointwiseConv2d(nn.Conv2d):
    """1x1 convolution, computed as the matrix product that it is where that is faster.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        bias: Whether a bias is added.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H, W)."""
        if not x.is_cpu or is_compiling() or x.shape[0] * x.shape[2] * x.shape[3] * self.weight.numel() > MATMUL_MACS:
            return super().forward(x)
        x = self.on_last_axis(x.permute(0, 2, 3, 1))  # N,C,H,W -> N,H,W,C -> N,H,W,out
        return x.permute(0, 3, 1, 2)  # -> N,out,H,W

    def on_last_axis(self, x: Tensor) -> Tensor:
        """Map (..., in_channels) to (..., out_channels)."""
        return F.linear(x, self.weight.flatten(1), self.bias)
