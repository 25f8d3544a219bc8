"""Data-parallel training between processes on CPUs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.distributed as dist
from torch import nn

from emo_mm.engine.cpu.sync_bn import synchronise_batchnorm

if TYPE_CHECKING:
    from mmengine.config import Config
    from mmengine.runner import Runner


def cpu_runner(cfg: Config, base: type[Runner]) -> Runner:
    """Return the runner of a config for data-parallel training between processes on CPUs, where MMEngine expects GPUs.

    MMEngine selects a CUDA device before it makes the process group and gives its data-parallel wrapper a device
    index. A group that exists is left alone, and so are the device ids that the config gives. The BatchNorms must be
    synchronised before the model is wrapped, by ours: the wrapper refuses torch's own on CPUs.

    Args:
        cfg: The config.
        base: The class of runner to extend.
    """

    class CPURunner(base):
        def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
            count = synchronise_batchnorm(model) if synchronises else 0
            self.logger.info(f'{count} BatchNorm layers are synchronised over {self.world_size} processes')
            return super().wrap_model(model_wrapper_cfg, model)

    if not dist.is_initialized():
        dist.init_process_group('gloo')
    cfg.env_cfg.dist_cfg = dict(backend='gloo')
    cfg.model_wrapper_cfg = dict(
        type='MMDistributedDataParallel',
        device_ids=None,
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )
    synchronises = cfg.pop('sync_bn', None) is not None
    return CPURunner.from_cfg(cfg)
