"""Stand-ins for mmcv's focal losses (Lin et al. 2017, arXiv:1708.02002); arguments are those of the compiled ops.

They write into a tensor that the caller made, as the compiled ones do. A target outside the classes is background.
"""

from __future__ import annotations

import torch
from torch import Tensor

_SMALLEST = torch.finfo(torch.float32).tiny  # below it a logarithm is cut off, as in the compiled ops


def _log(p: Tensor) -> Tensor:
    return p.clamp(min=_SMALLEST).log()


def _weights(weight: Tensor, target: Tensor, like: Tensor) -> Tensor:
    """Return the weight (N,) of each sample's target class; ones without weights, and for background."""
    ones = like.new_ones(len(target))
    if not weight.numel():
        return ones
    inside = (target >= 0) & (target < len(weight))
    return torch.where(inside, weight[target.clamp(0, len(weight) - 1)].to(like.dtype), ones)


def _positive(x: Tensor, target: Tensor) -> Tensor:
    """Return where a class is the target: (N, C)."""
    return target[:, None] == torch.arange(x.shape[1], device=x.device)


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Fill ``output`` (N, C) with the loss of each logit of ``input`` (N, C) for the classes ``target`` (N,)."""
    p = input.sigmoid()
    positive = -alpha * (1 - p) ** gamma * _log(p)
    negative = -(1 - alpha) * p**gamma * _log(1 - p)
    loss = torch.where(_positive(input, target), positive, negative)
    output.copy_(loss * _weights(weight, target, input)[:, None])


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Fill ``grad_input`` (N, C) with the derivative of each loss by its logit."""
    p = input.sigmoid()
    positive = -alpha * (1 - p) ** gamma * (1 - p - gamma * p * _log(p))
    negative = -(1 - alpha) * p**gamma * (gamma * (1 - p) * _log(1 - p) - p)
    slope = torch.where(_positive(input, target), positive, negative)
    grad_input.copy_(slope * _weights(weight, target, input)[:, None])


def softmax_focal_loss_forward(
    softmax: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Fill ``output`` (N,) with the loss of each row of probabilities ``softmax`` (N, C); negative targets give 0."""
    p = softmax.gather(1, target.clamp(min=0)[:, None])[:, 0]  # N
    loss = -alpha * (1 - p) ** gamma * _log(p) * _weights(weight, target, softmax)
    output.copy_(torch.where(target >= 0, loss, torch.zeros_like(loss)))


def softmax_focal_loss_backward(
    softmax: Tensor, target: Tensor, weight: Tensor, buff: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Fill ``grad_input`` (N, C) with the derivative by the logits, ``buff`` (N,) with what all classes share."""
    p = softmax.gather(1, target.clamp(min=0)[:, None])[:, 0]  # N
    shared = alpha * (gamma * (1 - p) ** (gamma - 1) * p * _log(p) - (1 - p) ** gamma)
    shared = shared * _weights(weight, target, softmax)
    buff.copy_(torch.where(target >= 0, shared, torch.zeros_like(shared)))
    grad_input.copy_(buff[:, None] * (_positive(softmax, target).to(softmax.dtype) - softmax))
