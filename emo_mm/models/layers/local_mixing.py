"""The wide half of a mobile block in training, with little kept for the backward pass.

Of the five maps that autograd would keep at the width of the expansion, before and after the activation, after the
depth-wise convolution, its norm and the sum, two are kept. The others are functions of one pixel or of the kept
statistics and are computed again, which costs less than fetching them from memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_aten = torch.ops.aten
# How an activation is computed and differentiated, by its name.
_ACTIVATIONS: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor]]] = {
    'silu': (F.silu, _aten.silu_backward.grad_input),
    'gelu': (F.gelu, _aten.gelu_backward.grad_input),
    'none': (lambda x: x, lambda grad, _, grad_input: grad_input),
}


def local_mixing(x: Tensor, act: str, conv: nn.Conv2d, norm: nn.Module, proj: nn.Conv2d, skip: bool) -> Tensor:
    """Return proj(silu(norm(conv(y))) + y) for y = act(x), or without the sum, as a training step does.

    The statistics of ``norm`` are updated as it would do itself.

    Args:
        x: The expanded map before its activation, if that is still to come, (N, m, H, W).
        act: ``silu``, ``gelu`` or ``none``.
        conv: The depth-wise convolution, without a bias.
        norm: Its norm, a ``BatchNorm2d``.
        proj: The 1x1 projection, without a bias.
        skip: Whether y is added before the projection; the stride of ``conv`` has to be 1 then.

    Returns:
        Map of shape (N, out, H / stride, W / stride).
    """
    assert isinstance(norm, nn.BatchNorm2d)
    factor = 0.0 if norm.momentum is None else norm.momentum
    if norm.training and norm.track_running_stats and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
        if norm.momentum is None:
            factor = 1.0 / float(norm.num_batches_tracked)
    return _LocalMixing.apply(
        x,
        # Under autocast the map comes in its type; the norm keeps its parameters in float32.
        conv.weight.to(x.dtype),
        norm.weight,
        norm.bias,
        proj.weight.to(x.dtype),
        norm.running_mean,
        norm.running_var,
        norm.training or norm.running_mean is None,
        factor,
        norm.eps,
        conv.stride,
        conv.padding,
        act,
        skip,
    )


class _LocalMixing(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        conv_weight: Tensor,
        gain: Tensor,
        bias: Tensor,
        proj_weight: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        batch_statistics: bool,
        factor: float,
        eps: float,
        stride: tuple[int, int],
        padding: tuple[int, int],
        act: str,
        skip: bool,
    ) -> Tensor:
        groups = conv_weight.shape[0]
        with torch.autocast(x.device.type, enabled=False):
            y = _ACTIVATIONS[act][0](x)  # N,m,H,W
            c = F.conv2d(y, conv_weight, None, stride, padding, 1, groups)  # N,m,H/stride,W/stride
            if batch_statistics and c.shape[0] * c.shape[2] * c.shape[3] == 1:
                # as BatchNorm itself says; its kernel would make the running variance infinite
                raise ValueError(f'Expected more than 1 value per channel when training, got input size {c.shape}')
            z, mean, invstd = torch.native_batch_norm(
                c, gain, bias, running_mean, running_var, batch_statistics, factor, eps
            )
            if not batch_statistics:
                assert running_mean is not None
                assert running_var is not None
                mean, invstd = running_mean, torch.rsqrt(running_var + eps)
            z = F.silu(z, inplace=True)
            if skip:
                z += y
            out = F.conv2d(z, proj_weight)
        ctx.save_for_backward(x, c, conv_weight, gain, bias, proj_weight, running_mean, running_var, mean, invstd)
        ctx.settings = batch_statistics, eps, stride, padding, groups, act, skip
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, c, conv_weight, gain, bias, proj_weight, running_mean, running_var, mean, invstd = ctx.saved_tensors
        batch_statistics, eps, stride, padding, groups, act, skip = ctx.settings
        needs_x, needs_conv, needs_gain, needs_bias, needs_proj = ctx.needs_input_grad[:5]
        needs_wide = needs_x or needs_conv or needs_gain or needs_bias
        activate, activation_backward = _ACTIVATIONS[act]
        grad_x = grad_conv = grad_gain = grad_bias = None
        with torch.autocast(x.device.type, enabled=False):
            y = activate(x)
            scale = gain * invstd  # m
            normed = torch.addcmul((bias - mean * scale)[:, None, None], c, scale[:, None, None]).to(c.dtype)
            z = F.silu(normed)
            if skip:
                z += y
            grad_z, grad_proj, _ = _aten.convolution_backward(
                grad, z, proj_weight, None, (1, 1), (0, 0), (1, 1), False, (0, 0), 1, (needs_wide, needs_proj, False)
            )
            del z
            if needs_wide:
                grad_c, grad_gain, grad_bias = _aten.native_batch_norm_backward(
                    _aten.silu_backward.grad_input(grad_z, normed, grad_input=normed),  # in place
                    c,
                    gain,
                    running_mean,
                    running_var,
                    mean,
                    invstd,
                    batch_statistics,
                    eps,
                    (needs_x or needs_conv, needs_gain, needs_bias),
                )
                del normed
            if needs_conv:
                grad_conv = _depthwise_weight_gradient(grad_c, y, conv_weight, stride, padding)
            if needs_x:
                grad_y = _aten.convolution_backward(
                    grad_c,
                    y,
                    conv_weight,
                    None,
                    stride,
                    padding,
                    (1, 1),
                    False,
                    (0, 0),
                    groups,
                    (True, False, False),
                )[0]
                if skip:
                    grad_y += grad_z
                grad_x = activation_backward(grad_y, x, grad_input=grad_y)  # in place
        return grad_x, grad_conv, grad_gain, grad_bias, grad_proj, *(None,) * 9


def _depthwise_weight_gradient(
    grad: Tensor, x: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]
) -> Tensor:
    """Return the gradient of a depth-wise kernel, (m, 1, k, k), for that of the output, (N, m, H', W').

    On CPUs oneDNN is ten times slower at it for kernels wider than three columns. One of five is cut into two of three
    that share the middle column, and see the map shifted by one column to the right and to the left.
    """

    def gradient(grad: Tensor, x: Tensor, weight: Tensor, padding: tuple[int, int]) -> Tensor:
        return _aten.convolution_backward(
            grad, x, weight, None, stride, padding, (1, 1), False, (0, 0), weight.shape[0], (False, True, False)
        )[1]

    if not grad.is_cpu or weight.shape[-1] != 5 or padding[1] != 2 or stride[1] > 2:
        return gradient(grad, x, weight, padding)
    part = weight[..., :3].contiguous()  # m,1,k,5 -> m,1,k,3; its values take no part
    padding = (padding[0], 1)
    columns, width = grad.shape[-1], x.shape[-1]

    def columns_for(width: int) -> int:
        return (width - 1) // stride[1] + 1

    beyond = columns_for(width + 1) - columns
    left = gradient(F.pad(grad, (0, beyond)) if beyond else grad, F.pad(x, (1, 0)), part, padding)
    right = gradient(grad, F.pad(x, (-1, columns - columns_for(width - 1))), part, padding)
    return torch.cat([left, right[..., 1:]], -1)  # m,1,k,3 and m,1,k,2 -> m,1,k,5
