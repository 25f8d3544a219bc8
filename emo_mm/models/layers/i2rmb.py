"""The improved inverted residual mobile block (EMOv2 paper)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from emo_mm.models.layers.irmb import IRMB
from emo_mm.models.layers.pointwise import PointwiseConv2d, bounded_in_float16, multiply
from emo_mm.models.layers.window_attention import hybrid_window_attention, window_grid, window_pad

LAYER_SCALE = 1e-6


class LayerScale(nn.Module):
    """A learnt gain for each channel of a map.

    Args:
        num_channels: Channels of the map.
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((1, num_channels, 1, 1), LAYER_SCALE))

    def forward(self, x: Tensor) -> Tensor:
        """Scale a map of shape (N, num_channels, H, W) that is not used again."""
        return multiply(x, self.gamma)


class I2RMB(IRMB):
    """An iRMB that attends on the expanded map, over the whole of it and close by, and scales what it adds.

    Queries and keys come from the normalised input as in the iRMB, values from its expansion. The attention within
    strided windows ("remote") and that within contiguous ones ("close") share them, and are added up.

    Args:
        in_channels: Width of the input, s.
        out_channels: Width of the output.
        expand_ratio: m = int(s · expand_ratio) is the width of the values and of the depth-wise convolution.
        kernel_size: Side of the depth-wise kernel.
        stride: Stride of the depth-wise convolution.
        norm: ``bn`` or ``ln``, the norm of the input.
        act: ``silu`` or ``gelu``, the activation of the expansion.
        num_heads: Attention heads, a divisor of s and m; 0 is a block without attention.
        window_size: Side of the attention windows; 0 or less is one window over the whole map.
        drop_path_rate: Probability of dropping the branch of a sample in training.
        with_cp: Whether activations are recomputed in the backward pass to save memory.

    Raises:
        ValueError: If ``num_heads`` does not divide the widths.
    """

    layer_scale: nn.Module
    attention_expands = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        expand_ratio: float,
        kernel_size: int,
        stride: int,
        norm: str = 'bn',
        act: str = 'silu',
        num_heads: int = 0,
        window_size: int = 7,
        drop_path_rate: float = 0.0,
        with_cp: bool = False,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            expand_ratio,
            kernel_size,
            stride,
            norm=norm,
            act=act,
            num_heads=num_heads,
            window_size=window_size,
            drop_path_rate=drop_path_rate,
            with_cp=with_cp,
        )
        width = int(in_channels * expand_ratio)
        if num_heads and (in_channels % num_heads or width % num_heads):
            raise ValueError(
                f'num_heads is {num_heads} where the widths are {in_channels} and, expanded, {width}; '
                'it must divide both'
            )
        self.layer_scale = LayerScale(out_channels)

    def attend(self, x: Tensor) -> Tensor:
        """Return the attended expansion, (N, m, H, W), for a normalised map of shape (N, s, H, W)."""
        expansion = self.v[0]
        assert self.qk is not None
        assert isinstance(expansion, PointwiseConv2d)
        shape = x.shape[0], x.shape[2], x.shape[3]
        grid = window_grid(shape[1], shape[2], self.window_size)
        x = window_pad(x.permute(0, 2, 3, 1), grid, self.pad_value)  # N,s,H,W -> N,H,W,s -> N,H',W',s
        x = bounded_in_float16(x)
        # Both cuts have the same padding, so projecting before the cut does for both.
        qk = bounded_in_float16(self.qk.on_last_axis(x))  # N,H',W',s -> N,H',W',2s
        # Two attended maps are added up.
        v = self.v[1](bounded_in_float16(expansion.on_last_axis(x), share=0.5))  # N,H',W',s -> N,H',W',m
        x = hybrid_window_attention(qk, v, grid, shape, self.num_heads)  # N,H,W,m
        return x.permute(0, 3, 1, 2)  # N,H,W,m -> N,m,H,W

    def _mix(self, y: Tensor, expanded: bool) -> Tensor:
        return self.layer_scale(super()._mix(y, expanded))
