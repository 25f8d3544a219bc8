"""The one form of a network that every exporter takes."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emo_mm.deploy.fuse import fuse
from emo_mm.models.emo import EMO
from emo_mm.models.layers import IRMB
from emo_mm.models.layers.window_attention import multi_head_attention, window_grid


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
    for module in form.modules():
        if getattr(module, 'inplace', False):
            module.inplace = False  # type: ignore[assignment]
        # EMOv2's block attends otherwise, and keeps its own form.
        if size is not None and type(module) is IRMB:
            module.__class__ = FixedSizeIRMB
    if size is not None and hasattr(form, 'bbox_head'):
        _fix_anchors(form, size)
    return form


class FixedSizeIRMB(IRMB):
    """The block at a fixed size, with a window split that runtimes of rank 4 take."""

    def attend(self, x: Tensor) -> Tensor:
        """Return what :meth:`IRMB.attend` does, for (N, s, H, W) with any N."""
        assert self.qk is not None
        batch, channels, height, width = x.shape
        h, w, n1, n2 = window_grid(height, width, self.window_size)
        bottom, right = h * n1 - height, w * n2 - width
        if bottom or right:
            x = _pad(x, bottom, right, self.pad_value)  # N,s,H,W -> N,s,H',W' with H' = h·n1, W' = w·n2
        x = x.permute(0, 2, 3, 1)  # N,s,H',W' -> N,H',W',s
        if n1 > 1:
            x = x.reshape(batch, h, n1, w * n2 * channels).transpose(1, 2)  # -> N, h, n1, W'·s -> N, n1, h, W'·s
        x = x.reshape(batch * n1, h * w, n2, channels)  # -> N·n1, h·w, n2, s
        if n2 > 1:
            x = x.transpose(1, 2)  # -> N·n1, n2, h·w, s
        v = x.reshape(batch * n1 * n2, h * w, channels)  # -> N·n1·n2, h·w, s
        q, k = self.qk.on_last_axis(v).chunk(2, dim=-1)  # B,T,2s -> twice B,T,s
        x = multi_head_attention(q, k, v, self.num_heads)  # B,T,s
        if n2 > 1:
            x = x.reshape(batch * n1, n2, h * w, channels).transpose(1, 2)  # -> N·n1, n2, h·w, s -> N·n1, h·w, n2, s
        if n1 > 1:
            x = x.reshape(batch, n1, h, w * n2 * channels).transpose(1, 2)  # -> N, n1, h, W'·s -> N, h, n1, W'·s
        x = x.reshape(batch, h * n1, w * n2, channels)  # -> N,H',W',s
        return x.permute(0, 3, 1, 2)[:, :, :height, :width]  # -> N,s,H',W' -> N,s,H,W


class PlainLayoutEMO(EMO):
    """The backbone without a layout in memory of its own, for tracers whose views would be made for it."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return what :meth:`EMO.forward` does."""
        maps = [self.stem(x)]
        for stage in self.stages[: max(self.out_indices)]:
            maps.append(stage(maps[-1]))
        return tuple(maps[index] for index in self.out_indices)


class FixedAnchors(nn.Module):
    """The anchors of one input size, in the place of mmdet's generator.

    Args:
        levels: Anchors of each level, (A, 4).
    """

    def __init__(self, levels: list[Tensor]) -> None:
        super().__init__()
        self.counts = tuple(len(level) for level in levels)
        for index, level in enumerate(levels):
            self.register_buffer(f'level{index}', level)

    def grid_priors(self, sizes: Any, dtype: torch.dtype, device: torch.device) -> list[Tensor]:
        """Return the anchors; the arguments are the generator's."""
        return [getattr(self, f'level{index}') for index in range(len(self.counts))]


def _pad(x: Tensor, bottom: int, right: int, value: Tensor | None) -> Tensor:
    if value is None:
        return F.pad(x, (0, right, 0, bottom))
    value = value.view(1, -1, 1, 1)  # s -> 1,s,1,1
    # The folded norm's zero is another value in each channel, which a padding operator has no words for.
    return F.pad(x - value, (0, right, 0, bottom)) + value


def _fix_anchors(form: Any, size: tuple[int, int]) -> None:
    head = form.bbox_head
    with torch.no_grad():
        scores, _ = head(form.extract_feat(torch.zeros(1, 3, *size)))
    levels = head.prior_generator.grid_priors([level.shape[-2:] for level in scores], device='cpu')
    head.prior_generator = FixedAnchors(levels)
