"""Windowed attention as pure functions over N×H×W×C maps.

Two ways to cut a padded map of H = h·n1 rows and W = w·n2 columns into n1·n2 windows of h×w pixels:

* *strided* (EMO, and the "remote" half of EMOv2): pixel (i, j) belongs to window (i mod n1, j mod n2) and sits in it at
  row i // n1, column j // n2, so that a window is a grid sampled over the whole map;
* *contiguous* (the "close" half of EMOv2): pixel (i, j) belongs to window (i // h, j // w).

Queries and keys share one width, values may be wider. Everything works on the last axis, so a channels-last map is
cut with one copy and put together with one more.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.compiler import is_exporting


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


def window_partition(x: Tensor, grid: WindowGrid, num_heads: int, strided: bool) -> Tensor:
    """Cut a padded map into windows, one attention problem per window and head.

    Args:
        x: Map of shape (N, rows·height, cols·width, C), C divisible by ``num_heads``.
        grid: The cut.
        num_heads: Heads; each takes C / num_heads consecutive channels.
        strided: Whether windows are strided grids rather than contiguous tiles.

    Returns:
        Tokens of shape (N·rows·cols, num_heads, height·width, C / num_heads).
    """
    h, w, n1, n2 = grid
    batch, _, _, channels = x.shape
    if strided:
        x = x.view(batch, h, n1, w, n2, num_heads, channels // num_heads)  # N, h·n1, w·n2, C -> N,h,n1,w,n2,heads,d
        x = x.permute(0, 2, 4, 5, 1, 3, 6)  # -> N,n1,n2,heads,h,w,d
    else:
        x = x.view(batch, n1, h, n2, w, num_heads, channels // num_heads)  # N, n1·h, n2·w, C -> N,n1,h,n2,w,heads,d
        x = x.permute(0, 1, 3, 5, 2, 4, 6)  # -> N,n1,n2,heads,h,w,d
    # N,n1,n2,heads,h,w,d -> N·n1·n2, heads, h·w, d
    return x.reshape(batch * n1 * n2, num_heads, h * w, channels // num_heads)


def window_reverse(windows: Tensor, grid: WindowGrid, strided: bool) -> Tensor:
    """Put windows together again: the inverse of :func:`window_partition`.

    Args:
        windows: Tokens of shape (N·rows·cols, num_heads, height·width, d).
        grid: The cut that made them.
        strided: As given to :func:`window_partition`.

    Returns:
        Map of shape (N, rows·height, cols·width, num_heads·d).
    """
    h, w, n1, n2 = grid
    batch = windows.shape[0] // (n1 * n2)
    num_heads, head_dim = windows.shape[1], windows.shape[3]
    # N·n1·n2, heads, h·w, d -> N,n1,n2,heads,h,w,d
    x = windows.view(batch, n1, n2, num_heads, h, w, head_dim)
    # -> N,h,n1,w,n2,heads,d for strided windows, N,n1,h,n2,w,heads,d for contiguous ones
    x = x.permute(0, 4, 1, 5, 2, 3, 6) if strided else x.permute(0, 1, 4, 2, 5, 3, 6)
    return x.reshape(batch, n1 * h, n2 * w, num_heads * head_dim)


def window_attention(
    q: Tensor, k: Tensor, v: Tensor, grid: WindowGrid, size: tuple[int, int], num_heads: int, strided: bool
) -> Tensor:
    """Attend within windows, softmax(q·kᵀ / sqrt(d))·v, with no mask: padded positions take part.

    The softmax is computed in float32 whatever the dtype of the maps, as the fused kernels do.

    Args:
        q: Queries, a padded map of shape (N, H', W', C).
        k: Keys, of the same shape.
        v: Values, of shape (N, H', W', M); M may differ from C.
        grid: The cut into windows.
        size: Height and width of the map before it was padded.
        num_heads: Heads, a divisor of C and of M.
        strided: Whether windows are strided grids rather than contiguous tiles.

    Returns:
        Map of shape (N, height, width, M), without the padding.
    """
    if is_exporting():
        return _gathered_window_attention(q, k, v, grid, size, num_heads, strided)
    q, k, v = (window_partition(x, grid, num_heads, strided) for x in (q, k, v))
    x = window_reverse(F.scaled_dot_product_attention(q, k, v), grid, strided)
    return x[:, : size[0], : size[1]]


def _gathered_window_attention(
    q: Tensor, k: Tensor, v: Tensor, grid: WindowGrid, size: tuple[int, int], num_heads: int, strided: bool
) -> Tensor:
    """The same by gathering pixels, for `torch.export` with dynamic sizes.

    A view that splits or merges a dynamic axis makes the exporter assume how many windows there are (one, or more than
    one), and the program then refuses the sizes for which it is otherwise. Indices assume nothing.
    """
    h, w, n1, n2 = grid
    batch, device = q.shape[0], q.device

    window = torch.arange(batch * n1 * n2, device=device)
    window_row, window_col = window // n2 % n1, window % n2
    row_in, col_in = torch.arange(h, device=device), torch.arange(w, device=device)
    if strided:
        row, col = window_row[:, None] + row_in * n1, window_col[:, None] + col_in * n2  # N·n1·n2,h and N·n1·n2,w
    else:
        row, col = window_row[:, None] * h + row_in, window_col[:, None] * w + col_in
    pixels = (window // (n1 * n2))[:, None, None], row[:, :, None], col[:, None, :]

    def tokens(x: Tensor) -> Tensor:
        x = x[pixels].flatten(1, 2)  # N,H',W',C -> N·n1·n2,h,w,C -> N·n1·n2, h·w, C
        return x.unflatten(-1, (num_heads, x.shape[-1] // num_heads)).transpose(1, 2)  # -> N·n1·n2, heads, h·w, d

    x = F.scaled_dot_product_attention(tokens(q), tokens(k), tokens(v))
    x = x.transpose(1, 2).flatten(2)  # N·n1·n2, heads, h·w, d -> N·n1·n2, h·w, M

    i, j = torch.arange(size[0], device=device)[:, None], torch.arange(size[1], device=device)[None]
    window_of = i % n1 * n2 + j % n2 if strided else i // h * n2 + j // w  # height,width
    place_of = i // n1 * w + j // n2 if strided else i % h * w + j % w
    first = torch.arange(batch, device=device)[:, None, None] * (n1 * n2)
    return x[first + window_of, place_of]  # N·n1·n2, h·w, M -> N,height,width,M
