"""Synchronised BatchNorm on CPUs."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce


class CPUSyncBatchNorm(nn.BatchNorm2d):
    """BatchNorm synchronised between CPU processes (gloo), with the parameters, buffers and answers of torch's own.

    torch.nn.SyncBatchNorm computes its statistics in CUDA kernels, and DistributedDataParallel refuses it on CPUs.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, H, W) by the mean and variance over all processes."""
        if not self.training or not dist.is_initialized() or dist.get_world_size() == 1:
            return super().forward(x)
        count = torch.full((1,), x.numel() / x.shape[1], dtype=x.dtype)
        sums = all_reduce(torch.cat([x.sum((0, 2, 3)), (x * x).sum((0, 2, 3)), count]))  # C, C, 1
        total = sums[-1].detach()
        mean, mean_square = (sums[:-1] / total).chunk(2)  # C each
        var = (mean_square - mean * mean).clamp_min(0)
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            with torch.no_grad():
                self.num_batches_tracked.add_(1)
                momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
                self.running_mean.lerp_(mean, momentum)
                self.running_var.lerp_(var * (total / (total - 1).clamp_min(1)), momentum)
        scale = self.weight * torch.rsqrt(var + self.eps)  # C
        return x * scale[:, None, None] + (self.bias - mean * scale)[:, None, None]


def synchronise_batchnorm(model: nn.Module) -> int:
    """Replace every BatchNorm2d below ``model`` in place, keeping its parameters and buffers; return how many."""
    count = 0
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.BatchNorm2d and child.affine:
                norm = CPUSyncBatchNorm(child.num_features, child.eps, child.momentum)
                norm.weight, norm.bias = child.weight, child.bias
                norm.running_mean, norm.running_var = child.running_mean, child.running_var
                norm.num_batches_tracked = child.num_batches_tracked
                norm.train(child.training)
                setattr(parent, name, norm)
                count += 1
    return count
