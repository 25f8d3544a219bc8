"""Synchronised BatchNorm on CPUs."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce


class CPUSyncBatchNorm(nn.SyncBatchNorm):
    """SyncBatchNorm between CPU processes (gloo), with the parameters, buffers and answers of torch's own.

    torch.nn.SyncBatchNorm computes its statistics in CUDA kernels and raises on CPU tensors.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, ...) by the mean and variance over all processes."""
        if not self.training or not dist.is_initialized() or dist.get_world_size() == 1:
            return nn.functional.batch_norm(
                x,
                self.running_mean,
                self.running_var,
                self.weight,
                self.bias,
                self.training,
                self._momentum(),
                self.eps,
            )
        dims = [d for d in range(x.dim()) if d != 1]
        count = torch.full((1,), x.numel() / x.shape[1], dtype=x.dtype)
        sums = torch.cat([x.sum(dims), (x * x).sum(dims), count])  # C, C, 1
        sums = all_reduce(sums)
        total = sums[-1].detach()
        mean, mean_square = (sums[:-1] / total).chunk(2)
        var = (mean_square - mean * mean).clamp_min(0)
        if self.running_mean is not None and self.running_var is not None:
            momentum = self._momentum()
            with torch.no_grad():
                self.running_mean.lerp_(mean, momentum)
                self.running_var.lerp_(var * (total / (total - 1).clamp_min(1)), momentum)
        shape = [1, -1] + [1] * (x.dim() - 2)
        scale = self.weight * torch.rsqrt(var + self.eps)
        return x * scale.view(shape) + (self.bias - mean * scale).view(shape)

    def _momentum(self) -> float:
        if self.training and self.track_running_stats and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        return 0.0 if self.momentum is None else self.momentum


def replace_sync_batchnorm(model: nn.Module) -> int:
    """Replace every torch.nn.SyncBatchNorm below ``model`` in place, keeping its parameters; return how many."""
    count = 0
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.SyncBatchNorm:
                norm = CPUSyncBatchNorm(child.num_features, child.eps, child.momentum)
                norm.weight, norm.bias = child.weight, child.bias
                norm.running_mean, norm.running_var = child.running_mean, child.running_var
                norm.num_batches_tracked = child.num_batches_tracked
                norm.train(child.training)
                setattr(parent, name, norm)
                count += 1
    return count
