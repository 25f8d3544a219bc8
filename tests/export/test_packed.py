from __future__ import annotations

import copy
import io

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.profiler import ProfilerActivity, profile

from emo_mm.models import EMO
from emo_mm.models.inference.fuse import fuse
from emo_mm.models.inference.packed import PackedConv2d

ACTS = {'none': lambda x: x, 'silu': F.silu, 'gelu': F.gelu}
PACKED_CALL = 'mkldnn::_convolution_pointwise'


def _convolution(kernel: int, stride: int, groups: int, bias: bool = True) -> nn.Conv2d:
    torch.manual_seed(0)
    conv = nn.Conv2d(16, 32, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=bias)
    return conv.eval().requires_grad_(False)


def _names_of_calls(function) -> set[str]:
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        function()
    return {event.key for event in profiler.key_averages()}


@pytest.mark.parametrize('act', ACTS)
@pytest.mark.parametrize(('kernel', 'stride', 'groups'), [(1, 1, 1), (3, 2, 16), (5, 1, 16), (3, 2, 1)])
def test_one_call_gives_the_convolution_and_its_activation(kernel, stride, groups, act):
    conv = _convolution(kernel, stride, groups)
    packed = PackedConv2d(conv, act)
    for shape in ((1, 16, 14, 14), (3, 16, 9, 7), (1, 16, 1, 1)):
        for memory_format in (torch.channels_last, torch.contiguous_format):
            x = torch.randn(shape).contiguous(memory_format=memory_format)
            assert (packed(x) - ACTS[act](conv(x))).abs().max() < 1e-5


def test_a_fused_backbone_runs_packed_convolutions_in_inference_only():
    net, image = fuse(EMO('1m')), torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert PACKED_CALL in _names_of_calls(lambda: net(image))
    image.requires_grad_()
    assert PACKED_CALL not in _names_of_calls(lambda: net(image))
    sum(found.sum() for found in net(image)).backward()
    assert image.grad.abs().sum() > 0


def test_changed_weights_are_laid_out_anew():
    packed, x = PackedConv2d(_convolution(1, 1, 1), 'silu'), torch.randn(1, 16, 8, 8)
    before = packed(x)
    with torch.no_grad():
        packed.weight.mul_(2)
    other = _convolution(1, 1, 1)
    with torch.no_grad():
        other.weight.mul_(2)
    assert not torch.equal(packed(x), before)
    assert torch.allclose(packed(x), F.silu(other(x)), atol=1e-5)
    packed.load_state_dict(_convolution(1, 1, 1).state_dict())
    assert torch.equal(packed(x), before)


def test_a_network_that_has_run_can_be_copied_stored_and_cast():
    net, image = fuse(EMO('1m')), torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        expected = net(image)[-1]
        file = io.BytesIO()
        torch.save(net, file)
        file.seek(0)
        for twin in (copy.deepcopy(net), torch.load(file, weights_only=False)):
            assert torch.equal(twin(image)[-1], expected)
        assert torch.allclose(net.double()(image.double())[-1].float(), expected, atol=1e-5)


def test_layouts_for_many_shapes_do_not_pile_up():
    packed = PackedConv2d(_convolution(1, 1, 1), 'none')
    for side in range(1, 20):
        packed(torch.randn(1, 16, side, side))
    assert 0 < len(packed._packed) <= 4


def test_an_empty_batch_passes():
    assert PackedConv2d(_convolution(1, 1, 1), 'silu')(torch.randn(0, 16, 4, 4)).shape == (0, 32, 4, 4)
