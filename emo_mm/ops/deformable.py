"""Stand-ins for mmcv's deformable ops: both convolutions by torchvision's, multi-scale attention by ``grid_sample``.

They write into tensors that the caller made, as the compiled ops do. Gradients come from PyTorch's autograd, at the
cost of another forward pass.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def _gradients(function: Callable[..., Tensor], inputs: list[Tensor], grad_output: Tensor) -> tuple[Tensor, ...]:
    """Return the gradients of a function by each of its inputs."""
    with torch.enable_grad():
        leaves = [tensor.detach().requires_grad_() for tensor in inputs]
        return torch.autograd.grad(function(*leaves), leaves, grad_output)


def _deform_conv(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    mask: Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> Tensor:
    from torchvision.ops import deform_conv2d

    return deform_conv2d(input, offset, weight, None, stride, padding, dilation, mask)


def deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    im2col_step: int,
) -> None:
    """Fill ``output`` with the deformable convolution of ``input`` (Dai et al. 2017, arXiv:1703.06211).

    The groups follow from the shapes; ``columns``, ``ones`` and ``im2col_step`` are working memory of the compiled op.
    """
    output.copy_(_deform_conv(input, offset, weight, None, (dH, dW), (padH, padW), (dilationH, dilationW)))


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    weight: Tensor,
    columns: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    im2col_step: int,
) -> None:
    """Fill ``grad_input`` and ``grad_offset``."""

    def convolve(x: Tensor, o: Tensor) -> Tensor:
        return _deform_conv(x, o, weight, None, (dH, dW), (padH, padW), (dilationH, dilationW))

    for target, gradient in zip(
        (grad_input, grad_offset), _gradients(convolve, [input, offset], grad_output), strict=True
    ):
        target.copy_(gradient)


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_weight: Tensor,
    columns: Tensor,
    ones: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    scale: float,
    im2col_step: int,
) -> None:
    """Add ``scale`` times the gradient of the weights to ``grad_weight``, whose shape is theirs."""

    def convolve(w: Tensor) -> Tensor:
        return _deform_conv(input, offset, w, None, (dH, dW), (padH, padW), (dilationH, dilationW))

    (gradient,) = _gradients(convolve, [torch.zeros_like(grad_weight)], grad_output)
    grad_weight += scale * gradient


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
    with_bias: bool,
) -> None:
    """Fill ``output`` with the modulated deformable convolution of ``input`` (Zhu et al. 2019, arXiv:1811.11168)."""
    sizes = ((stride_h, stride_w), (pad_h, pad_w), (dilation_h, dilation_w))
    found = _deform_conv(input, offset, weight, mask, *sizes)
    output.copy_(found + bias.view(1, -1, 1, 1) if with_bias else found)


def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
    with_bias: bool,
) -> None:
    """Fill the five gradients; that of the bias only where there is one."""
    sizes = ((stride_h, stride_w), (pad_h, pad_w), (dilation_h, dilation_w))

    def convolve(x: Tensor, o: Tensor, w: Tensor, m: Tensor) -> Tensor:
        return _deform_conv(x, o, w, m, *sizes)

    found = _gradients(convolve, [input, offset, weight, mask], grad_output)
    for target, gradient in zip((grad_input, grad_offset, grad_weight, grad_mask), found, strict=True):
        target.copy_(gradient)
    if with_bias:
        grad_bias.copy_(grad_output.sum((0, 2, 3)))


def _attend(value: Tensor, shapes: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    """Return multi-scale deformable attention (N, Q, heads * D) (Zhu et al. 2021, arXiv:2010.04159).

    Args:
        value: All maps one after the other, (N, pixels, heads, D).
        shapes: Height and width of each map, (L, 2).
        locations: Places to sample, 0 to 1, x before y, (N, Q, heads, L, P, 2).
        weights: Weight of each place, (N, Q, heads, L, P).
    """
    images, _, heads, depth = value.shape
    queries = locations.shape[1]
    sizes = [(int(height), int(width)) for height, width in shapes.tolist()]
    total = value.new_zeros(images * heads, depth, queries)
    for level, (size, pixels) in enumerate(zip(sizes, value.split([h * w for h, w in sizes], dim=1), strict=True)):
        # N,h*w,heads,D -> N,heads,D,h*w -> N*heads,D,h,w
        maps = pixels.permute(0, 2, 3, 1).reshape(images * heads, depth, *size)
        # N,Q,heads,P,2 -> N,heads,Q,P,2 -> N*heads,Q,P,2; grid_sample counts from -1 to 1
        grid = 2 * locations[:, :, :, level].transpose(1, 2).flatten(0, 1) - 1
        sampled = F.grid_sample(maps, grid, 'bilinear', 'zeros', align_corners=False)  # N*heads,D,Q,P
        # N,Q,heads,P -> N,heads,Q,P -> N*heads,1,Q,P
        share = weights[:, :, :, level].transpose(1, 2).flatten(0, 1)[:, None]
        total = total + (sampled * share).sum(-1)
    # N*heads,D,Q -> N,heads*D,Q -> N,Q,heads*D
    return total.view(images, heads * depth, queries).transpose(1, 2).contiguous()


def ms_deform_attn_forward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """Return multi-scale deformable attention, (N, Q, heads * D); the starts of the maps follow from their sizes."""
    return _attend(value, value_spatial_shapes, sampling_locations, attention_weights)


def ms_deform_attn_backward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """Fill the gradients of the values, the places and the weights."""

    def attend(v: Tensor, places: Tensor, weights: Tensor) -> Tensor:
        return _attend(v, value_spatial_shapes, places, weights)

    found = _gradients(attend, [value, sampling_locations, attention_weights], grad_output)
    for target, gradient in zip((grad_value, grad_sampling_loc, grad_attn_weight), found, strict=True):
        target.copy_(gradient)
