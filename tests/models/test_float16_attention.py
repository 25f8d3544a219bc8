"""Attention in float16 gives finite answers whatever it is given, and in other types nothing is cut."""

import pytest
import torch

from emo_mm.models.layers import I2RMB, IRMB, multi_head_attention
from emo_mm.models.layers.pointwise import bounded_in_float16

BLOCKS = pytest.mark.parametrize('block', [IRMB, I2RMB])


def built(block):
    torch.manual_seed(0)
    return block(32, 32, 4, 3, 1, num_heads=2, window_size=7).eval()


def maps(scale):
    return torch.randn(2, 32, 10, 10, generator=torch.Generator().manual_seed(0)) * scale


@BLOCKS
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('scale', [1, 1e5, 1e8])
def test_attention_under_autocast_is_finite_on_maps_beyond_the_range_of_float16(block, dtype, scale):
    m = built(block)
    x = maps(scale)
    with torch.autocast('cpu', dtype=dtype):
        y = m.attend(x).detach()
    assert y.dtype == dtype
    assert y.isfinite().all()
    if scale == 1:
        torch.testing.assert_close(y.float(), m.attend(x).detach(), rtol=0.05, atol=0.05)


@BLOCKS
def test_attention_of_a_half_precision_network_is_finite_up_to_the_largest_number(block):
    m = built(block).half()
    for value in (6e4, float('inf')):
        x = maps(1).half()
        x[0, 3] = value
        assert m.attend(x).isfinite().all()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_products_of_queries_and_keys_may_exceed_float16(dtype):
    q = (torch.randn(3, 49, 64, generator=torch.Generator().manual_seed(0)) * 300).to(dtype)
    v = torch.randn(3, 49, 64).to(dtype)
    assert (q.float() @ q.float().mT).max() > 65504
    exact = multi_head_attention(q.double(), q.double(), v.double(), 2)
    torch.testing.assert_close(multi_head_attention(q, q, v, 2).double(), exact, rtol=0.05, atol=0.05)


def test_nothing_is_cut_in_float32_and_bfloat16():
    x = maps(1e8)
    assert bounded_in_float16(x) is x
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert bounded_in_float16(x) is x
    with torch.autocast('cpu', dtype=torch.float16):
        assert bounded_in_float16(x).abs().max() == 65504
