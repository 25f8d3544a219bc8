"""The training step that keeps little equals the plain one."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from emo_mm.models.layers import I2RMB, IRMB


def block(stride=1, act='silu', num_heads=0, kernel_size=3, kind=IRMB):
    torch.manual_seed(0)
    module = kind(8, 8, 3, kernel_size, stride, norm='ln' if num_heads else 'bn', act=act, num_heads=num_heads).double()
    for norm in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.weight.data.uniform_(0.5, 1.5)
        norm.bias.data.uniform_(-0.5, 0.5)
    if kind is I2RMB:
        module.layer_scale.gamma.data.uniform_(0.5, 1.5)
        module.window_size = 4  # several windows, some padded
    return module


def as_autograd_does(module):
    """Return a copy that takes the plain way: hooks on the parts must see what passes."""
    plain = deepcopy(module)
    plain.dw_conv.register_forward_hook(lambda *_: None)
    return plain


def step(module, x):
    x = x.clone().requires_grad_()
    y = module(x)
    y.square().sum().backward()
    return y, x.grad, {name: p.grad for name, p in module.named_parameters()}, dict(module.named_buffers())


def prepare(module, how):
    if how == 'frozen statistics':
        module.dw_norm.eval()
    elif how == 'cumulative statistics':
        module.dw_norm.momentum = None
    elif how == 'frozen expansion':
        module.v.requires_grad_(False)
        module.norm.requires_grad_(False)
    elif how == 'frozen norm':
        module.dw_norm.requires_grad_(False)
    elif how == 'frozen mixing':
        module.dw_conv.requires_grad_(False)
        module.dw_norm.requires_grad_(False)
    elif how == 'frozen projection':
        module.proj.requires_grad_(False)
    return module


@pytest.mark.parametrize(
    'how',
    [
        'as built',
        'frozen statistics',
        'cumulative statistics',
        'frozen expansion',
        'frozen norm',
        'frozen mixing',
        'frozen projection',
    ],
)
@pytest.mark.parametrize(
    ('stride', 'act', 'num_heads', 'kind'),
    [
        (1, 'silu', 0, IRMB),
        (2, 'silu', 0, IRMB),
        (2, 'gelu', 0, IRMB),
        (1, 'gelu', 2, IRMB),
        (2, 'gelu', 0, I2RMB),
        (1, 'gelu', 2, I2RMB),
    ],
)
def test_outputs_gradients_and_statistics_equal_those_of_autograd(stride, act, num_heads, kind, how):
    lean = prepare(block(stride, act, num_heads, kind=kind), how)
    plain = as_autograd_does(lean)
    for seed in range(2):
        x = torch.randn(3, 8, 9, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        for ours, theirs in zip(step(lean, x), step(plain, x), strict=True):
            torch.testing.assert_close(ours, theirs)


def kept(module, x):
    storages = {}

    def pack(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        module(x.requires_grad_())
    return sum(storages.values())


@pytest.mark.parametrize('kind', [IRMB, I2RMB])
def test_less_is_kept_for_the_backward_pass(kind):
    lean = block(kind=kind)
    x = torch.randn(2, 8, 32, 32, dtype=torch.float64)
    assert kept(lean, x) < 0.6 * kept(as_autograd_does(lean), x)


def test_autocast_gives_the_gradients_of_autograd_in_its_type():
    lean = block().float()
    plain = as_autograd_does(lean)
    x = torch.randn(2, 8, 16, 16)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        results = [step(module, x) for module in (lean, plain)]
    (ours, grad, grads, _), (theirs, plain_grad, plain_grads, _) = results
    assert ours.dtype == theirs.dtype
    torch.testing.assert_close(ours, theirs, rtol=2e-2, atol=2e-2)
    assert torch.nn.functional.cosine_similarity(grad.flatten(), plain_grad.flatten(), 0) > 0.99
    for name, value in grads.items():
        assert value.dtype == torch.float32
        assert torch.nn.functional.cosine_similarity(value.flatten(), plain_grads[name].flatten(), 0) > 0.97, name


@pytest.mark.parametrize('part', ['v', 'dw_conv', 'dw_norm', 'proj'])
def test_hooks_on_the_parts_see_what_passes_in_training(part):
    module = block()
    seen = []
    getattr(module, part).register_forward_hook(lambda *_: seen.append(part))
    module(torch.randn(2, 8, 8, 8, dtype=torch.float64)).sum().backward()
    assert seen == [part]


@pytest.mark.parametrize('size', [(9, 11), (8, 12), (4, 3), (1, 1)])
@pytest.mark.parametrize(('kernel_size', 'stride'), [(3, 1), (3, 2), (5, 1), (5, 2), (7, 1)])
def test_kernels_of_any_width_get_the_gradient_of_autograd(kernel_size, stride, size):
    lean = block(stride, kernel_size=kernel_size)
    x = torch.randn(3, 8, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    plain = as_autograd_does(lean)
    for ours, theirs in zip(step(lean, x), step(plain, x), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_single_pixel_has_no_statistics_and_is_refused():
    block = IRMB(8, 8, expand_ratio=2, kernel_size=3, stride=1).train()
    with pytest.raises(ValueError, match='more than 1 value per channel'):
        block(torch.randn(1, 8, 1, 1))
    assert block.dw_norm.running_var.isfinite().all()
    assert block(torch.randn(2, 8, 1, 1)).shape == (2, 8, 1, 1)
