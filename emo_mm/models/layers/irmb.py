"""The inverted residual mobile block (EMO paper, section 3.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial

import torch
import torch.utils.checkpoint as cp
from torch import Tensor, nn
from torch.compiler import is_compiling
from torchvision.ops import SqueezeExcitation, StochasticDepth

from emo_mm.models.layers.local_mixing import local_mixing
from emo_mm.models.layers.norm import LayerNorm2d, batch_norm
from emo_mm.models.layers.pointwise import GELU, PointwiseConv2d, SiLU, add, bounded_in_float16
from emo_mm.models.layers.window_attention import (
    multi_head_attention,
    window_grid,
    window_pad,
    window_partition,
    window_reverse,
)

NORMS: dict[str, Callable[[int], nn.Module]] = {'bn': batch_norm, 'ln': LayerNorm2d}
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {'silu': SiLU, 'gelu': GELU}


class IRMB(nn.Module):
    """Inverted residual mobile block: expansion, optional windowed attention, depth-wise convolution, projection.

    With attention, queries and keys come from the normalised input and act on it *before* the expansion: attending on
    the narrow map is cheaper than on the expanded one. The skip connections exist where stride is 1 and the widths are
    equal, unless ``expand_ratio`` is None.

    Args:
        in_channels: Width of the input, s.
        out_channels: Width of the output.
        expand_ratio: m = int(s · expand_ratio) is the width of the depth-wise convolution. None is the block of the
            stem: no norm, no expansion, squeeze-and-excitation after the convolution, no skip.
        kernel_size: Side of the depth-wise kernel.
        stride: Stride of the depth-wise convolution.
        norm: ``bn`` or ``ln``, the norm of the input.
        act: ``silu`` or ``gelu``, the activation of the expansion.
        num_heads: Attention heads; 0 is a block without attention.
        window_size: Side of the strided attention windows; 0 or less is one window over the whole map.
        drop_path_rate: Probability of dropping the branch of a sample in training.
        with_cp: Whether activations are recomputed in the backward pass to save memory.
    """

    norm: nn.Module
    dw_norm: nn.Module
    pad_value: Tensor | None
    # Whether `attend` expands the map as well.
    attention_expands = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        expand_ratio: float | None,
        kernel_size: int,
        stride: int,
        norm: str = 'bn',
        act: str = 'silu',
        num_heads: int = 0,
        window_size: int = 7,
        drop_path_rate: float = 0.0,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        in_stem = expand_ratio is None
        width = in_channels if expand_ratio is None else int(in_channels * expand_ratio)
        self.has_skip = stride == 1 and in_channels == out_channels and not in_stem
        self.act = act
        self.num_heads = num_heads
        self.window_size = window_size
        self.with_cp = with_cp

        self.norm = nn.Identity() if in_stem else NORMS[norm](in_channels)
        # What a normalised map is padded with, (in_channels,); None is zero. Only folding the norm changes it.
        self.register_buffer('pad_value', None)
        self.qk = PointwiseConv2d(in_channels, 2 * in_channels) if num_heads else None
        self.v = nn.Sequential() if in_stem else nn.Sequential(PointwiseConv2d(in_channels, width), ACTIVATIONS[act]())
        self.dw_conv = nn.Conv2d(
            width,
            width,
            kernel_size,
            stride=stride,
            padding=(kernel_size - stride + 1) // 2,
            groups=width,
            bias=False,
        )
        self.dw_norm = batch_norm(width)
        self.dw_act: nn.Module = SiLU()
        self.se = SqueezeExcitation(width, width, activation=nn.SiLU) if in_stem else nn.Identity()
        self.proj: nn.Conv2d = PointwiseConv2d(width, out_channels, bias=False)
        keeps_path = not self.has_skip or drop_path_rate == 0
        self.drop_path = nn.Identity() if keeps_path else StochasticDepth(drop_path_rate, mode='row')

    def attend(self, x: Tensor) -> Tensor:
        """Return softmax(q·kᵀ)·x within strided windows, for a normalised map x of shape (N, s, H, W)."""
        assert self.qk is not None
        shape = x.shape[0], x.shape[2], x.shape[3]
        grid = window_grid(shape[1], shape[2], self.window_size)
        x = window_pad(x.permute(0, 2, 3, 1), grid, self.pad_value)  # N,s,H,W -> N,H,W,s -> N,H',W',s
        v = window_partition(bounded_in_float16(x), grid, strided=True)  # N,H',W',s -> B,T,s
        q, k = bounded_in_float16(self.qk.on_last_axis(v)).chunk(2, dim=-1)  # B,T,2s -> twice B,T,s
        v = multi_head_attention(q, k, v, self.num_heads)
        x = window_reverse(v, grid, shape, strided=True)  # B,T,s -> N,H,W,s
        return x.permute(0, 3, 1, 2)  # N,H,W,s -> N,s,H,W

    def _forward(self, x: Tensor) -> Tensor:
        # The wide maps come and go in `_mix`; holding on to what it starts from would raise the peak of memory.
        y = self._mix(self._global_mix(x), expanded=self.qk is not None and self.attention_expands)  # -> N,out,H',W'
        return add(self.drop_path(y), x) if self.has_skip else y

    def _global_mix(self, x: Tensor) -> Tensor:
        x = self.norm(x)  # N,s,H,W
        return x if self.qk is None else self.attend(x)  # N,s,H,W, or N,m,H,W where attention expands

    def _mix(self, y: Tensor, expanded: bool) -> Tensor:
        """Expand a map, unless it is already, and return its local mixing, projected."""
        if self._keeps_little():
            act = 'none' if expanded else self.act
            y = y if expanded else self.v[0](y)  # N,s,H,W -> N,m,H,W
            return local_mixing(y, act, self.dw_conv, self.dw_norm, self.proj, self.has_skip)  # -> N,out,H',W'
        y = y if expanded else self.v(y)  # N,s,H,W -> N,m,H,W
        z = self.se(self.dw_act(self.dw_norm(self.dw_conv(y))))  # N,m,H,W -> N,m,H/stride,W/stride
        return self.proj(add(z, y) if self.has_skip else z)  # N,m,H',W' -> N,out,H',W'

    def _keeps_little(self) -> bool:
        """Tell whether this is a training step of the block as it was built, which can save memory."""
        if not self.training or self.with_cp or not self.v or not torch.is_grad_enabled() or is_compiling():
            return False
        inside = (self.v, self.dw_conv, self.dw_norm, self.proj)
        as_built = tuple(type(part) for part in inside) == (nn.Sequential, nn.Conv2d, nn.BatchNorm2d, PointwiseConv2d)
        # Hooks on the parts want to see what passes through them.
        return as_built and not any(m._forward_hooks or m._forward_pre_hooks for part in inside for m in part.modules())

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        if self.with_cp and self.training and x.requires_grad:
            return cp.checkpoint(
                self._forward, x, use_reentrant=False, context_fn=partial(_recomputation_contexts, self)
            )
        return self._forward(x)


def _recomputation_contexts(block: nn.Module):  # type: ignore[no-untyped-def]
    """Contexts of the forward pass and of its recomputation, as activation checkpointing wants them."""
    return nullcontext(), _frozen_batch_statistics(block)


@contextmanager
def _frozen_batch_statistics(block: nn.Module) -> Iterator[None]:
    """Keep the running statistics as they are: a recomputed forward pass must not count its batch a second time."""
    norms = [m for m in block.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    saved = [(m, m.momentum, m.num_batches_tracked) for m in norms]
    for m in norms:
        m.momentum = 0.0
        m.num_batches_tracked = None if m.num_batches_tracked is None else m.num_batches_tracked.clone()
    try:
        yield
    finally:
        for m, momentum, count in saved:
            m.momentum = momentum
            m.num_batches_tracked = count
