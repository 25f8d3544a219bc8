"""What differs between the OpenMMLab stacks and the versions of torch, each with its reason. Nothing else knows."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from emo_mm.errors import UserError
from emo_mm.tasks import TASK_OF_SCOPE

if TYPE_CHECKING:
    from mmengine.config import Config
    from mmengine.runner import Runner


def register_toolbox(scope: str) -> None:
    """Import the toolbox of a config and register its modules.

    Raises:
        UserError: If the toolbox is not installed, or does not fit the installed mmcv.
    """
    if scope not in list(TASK_OF_SCOPE):  # a value of another type may have no hash
        raise UserError(f'default_scope is {scope!r}; it must be one of {", ".join(TASK_OF_SCOPE)}')
    try:
        with _output_to_log():
            import_module(f'{scope}.utils').register_all_modules(init_default_scope=False)
    except (ImportError, AssertionError) as error:  # the toolboxes assert on the version of mmcv
        raise UserError(
            f'{scope}, which {TASK_OF_SCOPE[scope].noun} needs, cannot be imported: {error}; '
            '`emo-mm doctor` tells what to do'
        ) from error


@contextmanager
def _output_to_log() -> Iterator[None]:
    """Send to the log what toolboxes print while they are imported, such as that a data set of theirs is missing."""
    said = io.StringIO()
    try:
        with redirect_stdout(said):
            yield
    finally:
        for line in said.getvalue().splitlines():
            logging.getLogger('emo_mm').debug(line)


def quieten_coco_reader() -> None:
    """Send to the log what pycocotools prints of each annotation file that it reads, four lines a file."""
    if find_spec('pycocotools') is None:
        return
    import pycocotools.coco

    def to_log(*said: object) -> None:
        logging.getLogger('emo_mm').debug(' '.join(map(str, said)))

    pycocotools.coco.print = to_log


def use_faster_coco_metric(cfg: Config) -> bool:
    """Evaluate with mmdet's FasterCocoMetric (the maintained fork has it), which gives the same figures sooner."""
    if find_spec('faster_coco_eval') is None or find_spec('mmdet.evaluation.metrics.faster_coco_metric') is None:
        return False
    found = False
    for key in ('val_evaluator', 'test_evaluator'):
        evaluators = cfg.get(key) or []
        for evaluator in evaluators if isinstance(evaluators, list) else [evaluators]:
            if evaluator.get('type') == 'CocoMetric':
                evaluator['type'] = 'FasterCocoMetric'
                found = True
    return found


def cpu_runner(cfg: Config, base: type[Runner]) -> Runner:
    """Return the runner of a config for data-parallel training between processes on CPUs, where MMEngine expects GPUs.

    MMEngine selects a CUDA device before it makes the process group and gives its data-parallel wrapper a device
    index. A group that exists is left alone, and so are the device ids that the config gives. The BatchNorms must be
    synchronised before the model is wrapped, by ours: the wrapper refuses torch's own on CPUs.

    Args:
        cfg: The config.
        base: The class of runner to extend.
    """
    import torch.distributed as dist
    from torch import nn

    from emo_mm.engine.sync_bn import synchronise_batchnorm

    class CPURunner(base):
        def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
            count = synchronise_batchnorm(model) if synchronises else 0
            self.logger.info(f'{count} BatchNorm layers are synchronised over {self.world_size} processes')
            return super().wrap_model(model_wrapper_cfg, model)

    if not dist.is_initialized():
        if cfg.launcher == 'slurm':
            os.environ.setdefault('RANK', os.environ['SLURM_PROCID'])
            os.environ.setdefault('WORLD_SIZE', os.environ['SLURM_NTASKS'])
            os.environ.setdefault('LOCAL_RANK', os.environ['SLURM_LOCALID'])
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
