"""Windowed attention as pure functions over N×H×W×C maps.

Two ways to cut a padded map of H = h·n1 rows and W = w·n2 columns into n1·n2 windows of h×w pixels:

* *strided* (EMO, and the "remote" half of EMOv2): pixel (i, j) belongs to window (i mod n1, j mod n2) and sits in it at
  row i // n1, column j // n2, so that a window is a grid sampled over the whole map;
* *contiguous* (the "close" half of EMOv2): pixel (i, j) belongs to window (i // h, j // w).

Channels stay on the last axis: a channels-last map is cut with one copy, heads are views of the windows' tokens, and
attended tokens are put together with one more copy. A map that is one window needs neither.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.compiler import is_compiling

from emo_mm.models.layers.pointwise import add

try:
    from torch.compiler import is_exporting
except ImportError:  # torch below 2.7; exporting is pinned to a newer one

    def is_exporting() -> bool:
        """Return False: these versions do not tell exporting from compiling."""
        return False


class WindowGrid(NamedTuple):
    """How a map is cut into windows.

    Attributes:
        height: Rows of a window.
        width: Columns of a window.
        rows: Windows from top to bottom (n1).
        cols: Windows from left to right (n2).
    """

    height: int
    width: int
    rows: int
    cols: int


def window_grid(height: int, width: int, window_size: int) -> WindowGrid:
    """Return the grid that covers a map, which has then to be padded to ``grid.height * grid.rows`` rows and so on.

    Args:
        height: Rows of the map, in pixels.
        width: Columns of the map, in pixels.
        window_size: Side of the square windows; 0 or less makes one window of the whole map.
    """
    if window_size <= 0:
        return WindowGrid(height, width, 1, 1)
    rows = (height + window_size - 1) // window_size
    cols = (width + window_size - 1) // window_size
    return WindowGrid(window_size, window_size, rows, cols)


def window_pad(x: Tensor, grid: WindowGrid, value: Tensor | None = None) -> Tensor:
    """Pad a map at its bottom and right to the size of its grid.

    Args:
        x: Map of shape (N, H, W, C).
        grid: The cut.
        value: What to pad with, (C,); zeros if None.

    Returns:
        Map of shape (N, rows·height, cols·width, C).
    """
    batch, height, width, channels = x.shape
    bottom, right = grid.rows * grid.height - height, grid.cols * grid.width - width
    if is_compiling() or torch.jit.is_tracing():
        # Sizes may be symbols: padding by possibly nothing keeps one graph for all of them.
        pads = (0, 0, 0, right, 0, bottom)
        return F.pad(x, pads) if value is None else F.pad(x - value, pads) + value
    if value is None:
        return F.pad(x, (0, 0, 0, right, 0, bottom)) if bottom > 0 or right > 0 else x
    if bottom > 0:
        x = torch.cat([x, value.expand(batch, bottom, width, channels)], 1)
    if right > 0:
        x = torch.cat([x, value.expand(batch, bottom + height, right, channels)], 2)
    return x


def window_partition(x: Tensor, grid: WindowGrid, strided: bool) -> Tensor:
    """Cut a padded map into the tokens of its windows.

    Args:
        x: Map of shape (N, rows·height, cols·width, C).
        grid: The cut.
        strided: Whether windows are strided grids rather than contiguous tiles.

    Returns:
        Tokens of shape (N·rows·cols, height·width, C).
    """
    if _has_dynamic_axes(x):
        return _gathered_partition(x, grid, strided)
    h, w, n1, n2 = grid
    batch, _, _, channels = x.shape
    if strided:
        x = x.unflatten(2, (w, n2)).unflatten(1, (h, n1))  # N, h·n1, w·n2, C -> N,h,n1,w,n2,C
        x = x.permute(0, 2, 4, 1, 3, 5)  # -> N,n1,n2,h,w,C
    else:
        x = x.unflatten(2, (n2, w)).unflatten(1, (n1, h))  # N, n1·h, n2·w, C -> N,n1,h,n2,w,C
        x = x.permute(0, 1, 3, 2, 4, 5)  # -> N,n1,n2,h,w,C
    return _contiguous(x).view(batch * n1 * n2, h * w, channels)  # N,n1,n2,h,w,C -> N·n1·n2, h·w, C


def window_reverse(windows: Tensor, grid: WindowGrid, shape: tuple[int, int, int], strided: bool) -> Tensor:
    """Put windows together again: the inverse of :func:`window_partition`, less the padding.

    Args:
        windows: Tokens of shape (N·rows·cols, height·width, C).
        grid: The cut that made them.
        shape: Batch N, height and width of the map before it was padded.
        strided: As given to :func:`window_partition`.

    Returns:
        Map of shape (*shape, C).
    """
    if _has_dynamic_axes(windows):
        return _gathered_reverse(windows, grid, shape, strided)
    h, w, n1, n2 = grid
    batch, height, width = shape
    channels = windows.shape[-1]
    x = windows.unflatten(1, (h, w)).unflatten(0, (batch, n1, n2))  # N·n1·n2, h·w, C -> N,n1,n2,h,w,C
    # -> N,h,n1,w,n2,C for strided windows, N,n1,h,n2,w,C for contiguous ones
    x = x.permute(0, 3, 1, 4, 2, 5) if strided else x.permute(0, 1, 3, 2, 4, 5)
    return _contiguous(x).view(batch, n1 * h, n2 * w, channels)[:, :height, :width]


def _contiguous(x: Tensor) -> Tensor:
    # The question whether a copy is needed would make a compiled graph depend on how the numbers of windows compare.
    return x.clone(memory_format=torch.contiguous_format) if is_compiling() else x.contiguous()


def multi_head_attention(q: Tensor, k: Tensor, v: Tensor, num_heads: int) -> Tensor:
    """Return softmax(q·kᵀ / sqrt(d))·v of each window and head, with no mask: padded positions take part.

    The softmax is computed in float32 whatever the dtype of the tokens, as the fused kernels do.

    Args:
        q: Queries, (B, T, C); each head takes d = C / num_heads consecutive channels.
        k: Keys, of the same shape.
        v: Values, (B, T, M); M may differ from C.
        num_heads: Heads, a divisor of C and of M.

    Returns:
        Tokens of shape (B, T, M).
    """
    batch, tokens, channels = q.shape
    q = q.view(batch, tokens, num_heads, channels // num_heads).transpose(1, 2)  # B,T,C -> B,T,heads,d -> B,heads,T,d
    k = k.view(batch, tokens, num_heads, channels // num_heads).transpose(1, 2)
    v = v.view(batch, tokens, num_heads, v.shape[-1] // num_heads).transpose(1, 2)  # B,T,M -> B,heads,T,M/heads
    x = F.scaled_dot_product_attention(q, k, v)  # takes views as they are
    return x.transpose(1, 2).flatten(2)  # B,heads,T,d -> B,T,heads,d -> B,T,M


def hybrid_window_attention(
    qk: Tensor, v: Tensor, grid: WindowGrid, shape: tuple[int, int, int], num_heads: int
) -> Tensor:
    """Return the sum of the attention within strided and within contiguous windows, for the same projections.

    Args:
        qk: Queries and then keys of a padded map, (N, rows·height, cols·width, 2·C).
        v: Values, (N, rows·height, cols·width, M).
        grid: The cut.
        shape: Batch N, height and width of the map before it was padded.
        num_heads: Heads, a divisor of C and of M.

    Returns:
        Map of shape (*shape, M).
    """
    traced = is_compiling() or torch.jit.is_tracing()
    by_heads = v.is_cpu and v.dtype in (torch.float32, torch.float64) and not traced
    attention = _attention_by_heads if by_heads else _attention_by_windows
    close = attention(qk, v, grid, shape, num_heads, strided=False)
    if not is_compiling() and grid.rows == grid.cols == 1:  # a compiled graph should serve every size
        return add(close, close)  # the two cuts are the same
    return add(attention(qk, v, grid, shape, num_heads, strided=True), close)


def _attention_by_windows(
    qk: Tensor, v: Tensor, grid: WindowGrid, shape: tuple[int, int, int], num_heads: int, strided: bool
) -> Tensor:
    q, k = window_partition(qk, grid, strided).chunk(2, dim=-1)  # N,H',W',2C -> B,T,2C -> twice B,T,C
    tokens = multi_head_attention(q, k, window_partition(v, grid, strided), num_heads)  # B,T,M
    x = window_reverse(tokens, grid, shape, strided)  # -> N,H,W,M
    # What is cut out of a padded map is not dense, and sums of such maps make a graph depend on the padding.
    return _contiguous(x) if is_compiling() else x


# -- The same attention with heads before tokens, on CPUs --------------------------------------------------------------
# PyTorch's kernel for CPUs wants values as wide as queries. What it falls back to copies the tokens once more for their
# heads, scales queries and keys, and looks for rows without a key. Here the copy that cuts the map sorts the heads too.


def _attention_by_heads(
    qk: Tensor, v: Tensor, grid: WindowGrid, shape: tuple[int, int, int], num_heads: int, strided: bool
) -> Tensor:
    h, w, n1, n2 = grid
    batch, height, width = shape
    q, k = _partition_by_heads(qk, grid, strided, 2, num_heads).chunk(2)  # N,H',W',2C -> twice B·heads,T,d
    v = _partition_by_heads(v, grid, strided, 1, num_heads)  # N,H',W',M -> B·heads,T,M/heads
    scores = torch.baddbmm(q.new_empty(()), q, k.transpose(1, 2), beta=0, alpha=q.shape[-1] ** -0.5)  # B·heads,T,T
    x = torch.bmm(scores.softmax(-1), v)  # B·heads,T,M/heads
    x = x.view(batch, n1, n2, num_heads, h, w, -1)
    # -> N,h,n1,w,n2,heads,M/heads for strided windows, N,n1,h,n2,w,heads,M/heads for contiguous ones
    x = x.permute(0, 4, 1, 5, 2, 3, 6) if strided else x.permute(0, 1, 4, 2, 5, 3, 6)
    return x.reshape(batch, n1 * h, n2 * w, -1)[:, :height, :width]  # -> N,H',W',M -> N,H,W,M


def _partition_by_heads(x: Tensor, grid: WindowGrid, strided: bool, parts: int, num_heads: int) -> Tensor:
    """Cut a padded map, (N, H', W', parts·heads·d), into (parts·N·rows·cols·heads, height·width, d)."""
    h, w, n1, n2 = grid
    if strided:
        x = x.view(-1, h, n1, w, n2, parts, num_heads, x.shape[-1] // (parts * num_heads))
        x = x.permute(5, 0, 2, 4, 6, 1, 3, 7)  # N,h,n1,w,n2,parts,heads,d -> parts,N,n1,n2,heads,h,w,d
    else:
        x = x.view(-1, n1, h, n2, w, parts, num_heads, x.shape[-1] // (parts * num_heads))
        x = x.permute(5, 0, 1, 3, 6, 2, 4, 7)  # N,n1,h,n2,w,parts,heads,d -> parts,N,n1,n2,heads,h,w,d
    return x.reshape(-1, h * w, x.shape[-1])


# -- The same cut by gathering pixels ---------------------------------------------------------------------------------
# A view that splits or merges a dynamic axis makes `torch.export` assume how many windows there are (one, or more than
# one), and the program then refuses the sizes for which it is otherwise. Indices assume nothing.


def _has_dynamic_axes(x: Tensor) -> bool:
    return is_exporting() and not all(isinstance(size, int) for size in x.shape)


def _gathered_partition(x: Tensor, grid: WindowGrid, strided: bool) -> Tensor:
    h, w, n1, n2 = grid
    device = x.device
    window = torch.arange(x.shape[0] * n1 * n2, device=device)
    window_row, window_col = window // n2 % n1, window % n2
    row_in, col_in = torch.arange(h, device=device), torch.arange(w, device=device)
    if strided:
        row, col = window_row[:, None] + row_in * n1, window_col[:, None] + col_in * n2  # N·n1·n2,h and N·n1·n2,w
    else:
        row, col = window_row[:, None] * h + row_in, window_col[:, None] * w + col_in
    x = x[(window // (n1 * n2))[:, None, None], row[:, :, None], col[:, None, :]]  # N,H',W',C -> N·n1·n2,h,w,C
    return x.flatten(1, 2)  # -> N·n1·n2, h·w, C


def _gathered_reverse(windows: Tensor, grid: WindowGrid, shape: tuple[int, int, int], strided: bool) -> Tensor:
    h, w, n1, n2 = grid
    batch, height, width = shape
    device = windows.device
    i, j = torch.arange(height, device=device)[:, None], torch.arange(width, device=device)[None]
    window_of = i % n1 * n2 + j % n2 if strided else i // h * n2 + j // w  # height,width
    place_of = i // n1 * w + j // n2 if strided else i % h * w + j % w
    first = torch.arange(batch, device=device)[:, None, None] * (n1 * n2)
    return windows[first + window_of, place_of]  # N·n1·n2, h·w, C -> N,height,width,C
