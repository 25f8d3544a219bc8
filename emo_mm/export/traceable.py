"""The one form of a network that every exporter takes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from emo_mm.models.inference.fuse import fuse
from emo_mm.models.layers import I2RMB, IRMB
from emo_mm.models.layers.pointwise import PointwiseConv2d
from emo_mm.models.layers.window_attention import WindowGrid, multi_head_attention, window_grid, window_pad


def deploy_form(model: nn.Module, size: tuple[int, int] | None) -> nn.Module:
    """Return a copy of a detector, segmenter or classifier to trace.

    Norms are folded and nothing works in place. For a fixed size, padding and the number of windows are decided,
    windows are cut by transposes of rank 4, and anchors are constants; otherwise windows are gathered, which assumes
    nothing.

    Args:
        model: The model; it stays as it is.
        size: Height and width of the input; None if either is dynamic.
    """
    form = fuse(model)
    for module in list(form.modules()):
        if getattr(module, 'inplace', False):
            module.inplace = False  # type: ignore[assignment]
        if isinstance(module, IRMB) and module.qk is not None:
            module.qk = LastAxisProjection(module.qk)  # type: ignore[assignment]
            if size is not None and module.attention_expands:
                module.v[0] = LastAxisProjection(module.v[0])  # type: ignore[arg-type]
        if size is not None and type(module) in FIXED_SIZE:
            module.__class__ = FIXED_SIZE[type(module)]
    heads = [getattr(form, name) for name in ('bbox_head', 'rpn_head') if hasattr(form, name)]
    if size is not None and heads:
        _fix_anchors(form, heads[0], size)
    return form


class LastAxisProjection(nn.Linear):
    """A pointwise convolution that is only ever applied to the last axis, with weights of rank 2.

    The tracer would put the reshaping of the weights into the graph, where quantizers do not find them.

    Args:
        conv: The convolution.
    """

    def __init__(self, conv: PointwiseConv2d) -> None:
        super().__init__(conv.in_channels, conv.out_channels, device='meta')
        self.weight = nn.Parameter(conv.weight.flatten(1), requires_grad=False)
        self.bias = conv.bias  # type: ignore[assignment]

    def on_last_axis(self, x: Tensor) -> Tensor:
        """Map (..., in_channels) to (..., out_channels)."""
        return self(x)


class FixedSizeIRMB(IRMB):
    """EMO's block at a fixed size, with a window split that runtimes of rank 4 take."""

    def attend(self, x: Tensor) -> Tensor:
        """Return what :meth:`IRMB.attend` does, for (N, s, H, W) with any N."""
        assert self.qk is not None
        x, grid, shape = _padded(x, self)  # N,s,H,W -> N,H',W',s
        v = cut(x, grid, strided=True)  # -> B,T,s
        q, k = self.qk.on_last_axis(v).chunk(2, dim=-1)  # B,T,2s -> twice B,T,s
        x = join(multi_head_attention(q, k, v, self.num_heads), grid, shape, strided=True)  # B,T,s -> N,H,W,s
        return x.permute(0, 3, 1, 2)  # N,H,W,s -> N,s,H,W


class FixedSizeI2RMB(I2RMB):
    """EMOv2's block at a fixed size, with a window split that runtimes of rank 4 take."""

    def attend(self, x: Tensor) -> Tensor:
        """Return what :meth:`I2RMB.attend` does, for (N, s, H, W) with any N."""
        expansion = self.v[0]
        assert self.qk is not None
        assert isinstance(expansion, LastAxisProjection)
        x, grid, shape = _padded(x, self)  # N,s,H,W -> N,H',W',s
        qk = self.qk.on_last_axis(x)  # N,H',W',s -> N,H',W',2s
        v = self.v[1](expansion.on_last_axis(x))  # N,H',W',s -> N,H',W',m
        maps = []
        for strided in (True, False):
            q, k = cut(qk, grid, strided).chunk(2, dim=-1)  # N,H',W',2s -> B,T,2s -> twice B,T,s
            tokens = multi_head_attention(q, k, cut(v, grid, strided), self.num_heads)  # B,T,m
            maps.append(join(tokens, grid, shape, strided))  # -> N,H,W,m
        return (maps[0] + maps[1]).permute(0, 3, 1, 2)  # N,H,W,m -> N,m,H,W


FIXED_SIZE: dict[type[nn.Module], type[nn.Module]] = {IRMB: FixedSizeIRMB, I2RMB: FixedSizeI2RMB}


def cut(x: Tensor, grid: WindowGrid, strided: bool) -> Tensor:
    """Return what ``window_partition`` does, by transposes of rank 4: (N, H', W', C) -> (B, T, C)."""
    h, w, n1, n2 = grid
    batch, _, _, channels = x.shape
    if not strided:
        if n2 > 1:
            x = x.reshape(batch * n1, h, n2, w * channels).transpose(1, 2)  # -> N·n1, h, n2, w·C -> N·n1, n2, h, w·C
        return x.reshape(batch * n1 * n2, h * w, channels)
    if n1 > 1:
        x = x.reshape(batch, h, n1, w * n2 * channels).transpose(1, 2)  # -> N, h, n1, W'·C -> N, n1, h, W'·C
    x = x.reshape(batch * n1, h * w, n2, channels)  # -> N·n1, h·w, n2, C
    if n2 > 1:
        x = x.transpose(1, 2)  # -> N·n1, n2, h·w, C
    return x.reshape(batch * n1 * n2, h * w, channels)


def join(windows: Tensor, grid: WindowGrid, shape: tuple[int, int, int], strided: bool) -> Tensor:
    """Return what ``window_reverse`` does, by transposes of rank 4: (B, T, C) -> (N, H, W, C)."""
    h, w, n1, n2 = grid
    batch, height, width = shape
    x, channels = windows, windows.shape[-1]
    if not strided:
        if n2 > 1:
            x = x.reshape(batch * n1, n2, h, w * channels).transpose(1, 2)  # -> N·n1, n2, h, w·C -> N·n1, h, n2, w·C
    else:
        if n2 > 1:
            x = x.reshape(batch * n1, n2, h * w, channels).transpose(1, 2)  # -> N·n1, n2, h·w, C -> N·n1, h·w, n2, C
        if n1 > 1:
            x = x.reshape(batch, n1, h, w * n2 * channels).transpose(1, 2)  # -> N, n1, h, W'·C -> N, h, n1, W'·C
    x = x.reshape(batch, h * n1, w * n2, channels)  # -> N,H',W',C
    return x[:, :height, :width]


class FixedAnchors(nn.Module):
    """The anchors or points of one input size, in the place of mmdet's generator.

    Args:
        levels: Those of each level, (A, 4) or (A, 2).
        strides: Pixels between the cells of each level, across and down, by which some heads multiply.
    """

    def __init__(self, levels: list[Tensor], strides: list[tuple[int, int]]) -> None:
        super().__init__()
        self.strides = strides
        self.counts = tuple(len(level) for level in levels)
        for index, level in enumerate(levels):
            self.register_buffer(f'level{index}', level)

    def grid_priors(self, sizes: Any, dtype: torch.dtype, device: torch.device) -> list[Tensor]:
        """Return the anchors; the arguments are the generator's."""
        return [getattr(self, f'level{index}') for index in range(len(self.counts))]


def _padded(x: Tensor, block: IRMB) -> tuple[Tensor, WindowGrid, tuple[int, int, int]]:
    """Return a map (N, s, H, W) padded to whole windows, (N, H', W', s), its grid, and N, H and W."""
    batch, _, height, width = x.shape
    grid = window_grid(height, width, block.window_size)
    x = x.permute(0, 2, 3, 1)  # N,s,H,W -> N,H,W,s
    # where nothing is missing, the padding of nothing would be traced
    if grid.rows * grid.height > height or grid.cols * grid.width > width:
        x = window_pad(x, grid, block.pad_value)  # -> N,H',W',s
    return x, grid, (batch, height, width)


def _fix_anchors(form: Any, head: Any, size: tuple[int, int]) -> None:
    with torch.no_grad():
        scores, *_ = head(form.extract_feat(torch.zeros(1, 3, *size)))
    levels = head.prior_generator.grid_priors([level.shape[-2:] for level in scores], device='cpu')
    head.prior_generator = FixedAnchors(levels, head.prior_generator.strides)
