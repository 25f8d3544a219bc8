"""Windows are cut as described and put together again."""

import pytest
import torch

from emo_mm.models.layers import window_attention, window_grid, window_partition, window_reverse


@pytest.mark.parametrize('strided', [True, False], ids=['strided', 'contiguous'])
@pytest.mark.parametrize('shape', [(14, 14, 7), (21, 7, 7), (6, 10, 0), (8, 4, 4)])
def test_partition_and_reverse_are_inverse(shape, strided):
    height, width, window = shape
    grid = window_grid(height, width, window)
    x = torch.randn(2, height, width, 12)
    windows = window_partition(x, grid, 3, strided)
    assert windows.shape == (2 * grid.rows * grid.cols, 3, grid.height * grid.width, 4)
    assert torch.equal(window_reverse(windows, grid, strided), x)


def test_strided_windows_are_grids_over_the_map_and_contiguous_ones_tiles():
    x = torch.arange(4 * 6).view(1, 4, 6, 1)
    grid = window_grid(4, 6, 2)  # 2 by 3 windows
    strided = window_partition(x, grid, 1, strided=True).flatten(1)
    tiles = window_partition(x, grid, 1, strided=False).flatten(1)
    for window in range(6):
        row, col = divmod(window, 3)
        assert strided[window].tolist() == [i * 6 + j for i in (row, row + 2) for j in (col, col + 3)]
        assert tiles[window].tolist() == [i * 6 + j for i in (2 * row, 2 * row + 1) for j in (2 * col, 2 * col + 1)]


def test_a_grid_covers_the_map_with_the_least_padding():
    assert window_grid(20, 21, 7) == (7, 7, 3, 3)
    assert window_grid(5, 3, 7) == (7, 7, 1, 1)
    assert window_grid(5, 3, 0) == (5, 3, 1, 1)
    assert window_grid(5, 3, -1) == (5, 3, 1, 1)


@pytest.mark.parametrize('strided', [True, False], ids=['strided', 'contiguous'])
def test_values_may_be_wider_than_queries(strided):
    grid = window_grid(6, 6, 3)
    q, k, v = torch.randn(1, 6, 6, 8), torch.randn(1, 6, 6, 8), torch.randn(1, 6, 6, 20)
    out = window_attention(q, k, v, grid, (6, 6), 4, strided)
    tokens_q, tokens_k, tokens_v = (window_partition(x, grid, 4, strided) for x in (q, k, v))
    plain = (tokens_q @ tokens_k.transpose(-1, -2) * 2**-0.5).softmax(-1) @ tokens_v
    torch.testing.assert_close(out, window_reverse(plain, grid, strided))


@pytest.mark.parametrize('strided', [True, False], ids=['strided', 'contiguous'])
@pytest.mark.parametrize('window', [3, 0])
def test_gathering_pixels_for_export_equals_views(strided, window):
    from emo_mm.models.layers.window_attention import _gathered_window_attention

    grid = window_grid(5, 8, window)
    q, k, v = (torch.randn(2, grid.rows * grid.height, grid.cols * grid.width, c) for c in (8, 8, 20))
    args = (q, k, v, grid, (5, 8), 4, strided)
    torch.testing.assert_close(_gathered_window_attention(*args), window_attention(*args))
