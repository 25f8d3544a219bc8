"""Windows are cut as described and put together again."""

import pytest
import torch

from emo_mm.models.layers import multi_head_attention, window_grid, window_partition, window_reverse


@pytest.mark.parametrize('strided', [True, False], ids=['strided', 'contiguous'])
@pytest.mark.parametrize('shape', [(14, 14, 7), (21, 7, 7), (6, 10, 0), (8, 4, 4)])
def test_partition_and_reverse_are_inverse(shape, strided):
    height, width, window = shape
    grid = window_grid(height, width, window)
    x = torch.randn(2, height, width, 12)
    windows = window_partition(x, grid, strided)
    assert windows.shape == (2 * grid.rows * grid.cols, grid.height * grid.width, 12)
    assert torch.equal(window_reverse(windows, grid, (2, height, width), strided), x)


def test_reverse_leaves_the_padding_out():
    grid = window_grid(5, 6, 4)
    x = torch.randn(2, 8, 8, 3)
    windows = window_partition(x, grid, strided=True)
    assert torch.equal(window_reverse(windows, grid, (2, 5, 6), strided=True), x[:, :5, :6])


def test_strided_windows_are_grids_over_the_map_and_contiguous_ones_tiles():
    x = torch.arange(4 * 6).view(1, 4, 6, 1)
    grid = window_grid(4, 6, 2)  # 2 by 3 windows
    strided = window_partition(x, grid, strided=True).flatten(1)
    tiles = window_partition(x, grid, strided=False).flatten(1)
    for window in range(6):
        row, col = divmod(window, 3)
        assert strided[window].tolist() == [i * 6 + j for i in (row, row + 2) for j in (col, col + 3)]
        assert tiles[window].tolist() == [i * 6 + j for i in (2 * row, 2 * row + 1) for j in (2 * col, 2 * col + 1)]


def test_a_grid_covers_the_map_with_the_least_padding():
    assert window_grid(20, 21, 7) == (7, 7, 3, 3)
    assert window_grid(5, 3, 7) == (7, 7, 1, 1)
    assert window_grid(5, 3, 0) == (5, 3, 1, 1)
    assert window_grid(5, 3, -1) == (5, 3, 1, 1)


def test_values_may_be_wider_than_queries():
    q, k, v = torch.randn(6, 9, 8), torch.randn(6, 9, 8), torch.randn(6, 9, 20)
    for head in range(4):
        qk, vm = slice(2 * head, 2 * head + 2), slice(5 * head, 5 * head + 5)
        plain = (q[..., qk] @ k[..., qk].transpose(1, 2) * 2**-0.5).softmax(-1) @ v[..., vm]
        torch.testing.assert_close(multi_head_attention(q, k, v, 4)[..., vm], plain)


@pytest.mark.parametrize('strided', [True, False], ids=['strided', 'contiguous'])
@pytest.mark.parametrize('window', [3, 0])
def test_heads_before_tokens_give_what_windows_give(window, strided):
    from emo_mm.models.layers.window_attention import _attention_by_heads, _attention_by_windows

    grid = window_grid(5, 8, window)
    padded = 2, grid.rows * grid.height, grid.cols * grid.width
    inputs = [torch.randn(*padded, channels, dtype=torch.float64, requires_grad=True) for channels in (16, 20)]
    results = []
    for attention in (_attention_by_heads, _attention_by_windows):
        x = attention(*inputs, grid, (2, 5, 8), num_heads=4, strided=strided)
        results.append([x, *torch.autograd.grad(x.square().sum(), inputs)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize('strided', [True, False], ids=['strided', 'contiguous'])
@pytest.mark.parametrize('window', [3, 0])
def test_gathering_pixels_for_export_equals_views(strided, window):
    from emo_mm.models.layers.window_attention import _gathered_partition, _gathered_reverse

    grid = window_grid(5, 8, window)
    x = torch.randn(2, grid.rows * grid.height, grid.cols * grid.width, 8)
    windows = window_partition(x, grid, strided)
    assert torch.equal(_gathered_partition(x, grid, strided), windows)
    assert torch.equal(_gathered_reverse(windows, grid, (2, 5, 8), strided), x[:, :5, :8])
