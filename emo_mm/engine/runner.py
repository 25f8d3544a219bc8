"""MMEngine's runner: built quietly, and shut down in all processes together."""

from __future__ import annotations

import gc
import logging
from typing import Any

import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.runner import Runner

from emo_mm.compat import quieten_coco_reader, register_toolbox
from emo_mm.config.check import explained
from emo_mm.engine.cpu.allocator import keep_freed_memory
from emo_mm.engine.cpu.runner import cpu_runner
from emo_mm.engine.distributed import is_first
from emo_mm.errors import UserError
from emo_mm.weights import use_safe_loading
from emo_mm.weights.loading import unwrapped


class QuietRunner(Runner):
    """MMEngine's runner, which keeps what is of no use on the screen for the log file."""

    def build_logger(self, log_level: Any = 'INFO', log_file: str | None = None, **settings: Any) -> Any:
        """Build the logger."""
        logger = super().build_logger(log_level, log_file, **settings)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(_is_for_the_screen)
        return logger

    def dump_config(self) -> None:
        """Write the config to the work directory, for trainings."""
        # A test in the work directory of a training leaves the training's config as it is; its own is in the log.
        if self._train_dataloader is not None:
            super().dump_config()


def build_runner(cfg: Config, lines: list[str]) -> Runner:
    """Build the runner of a config, on GPUs or CPUs, in one process or many.

    Args:
        cfg: The config.
        lines: What to print, once.

    Raises:
        UserError: If a part of the config cannot be built.
    """
    register_toolbox(cfg.default_scope)
    quieten_coco_reader()
    use_safe_loading()  # for what MMEngine itself reads: --resume, load_from
    on_cpu = not torch.cuda.is_available()
    if on_cpu:
        keep_freed_memory()
    if is_first():
        for line in lines:
            print(line, flush=True)
    try:
        between_cpus = on_cpu and cfg.launcher != 'none'
        runner = cpu_runner(cfg, QuietRunner) if between_cpus else QuietRunner.from_cfg(cfg)
    except (TypeError, ValueError, KeyError, AttributeError, AssertionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f'the config cannot be built: {explained(error)}') from error
    return runner


# What MMEngine logs by the hundred lines at every start, or that its own caller cannot change. The log file has it all.
_FOR_THE_LOG_FILE = (
    'paramwise_options',
    'System environment:',
    'Config:\n',
    'Hooks will be executed',
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias',
    'is duplicate. It is skipped since',  # heads of ours share convolutions on purpose
)


def _is_for_the_screen(record: logging.LogRecord) -> bool:
    return not any(words in str(record.msg)[:200] for words in _FOR_THE_LOG_FILE)


def shutdown_distributed(runner: Runner) -> None:
    """End a distributed run in all its processes together, once the first one has written what it writes.

    A process that leaves while its communication threads run may be aborted by them, and torchrun then kills the others
    at their work. The threads end with the last reference to the group, which the wrapped model holds.
    """
    if dist.is_available() and dist.is_initialized():
        dist.barrier()
        runner.model = unwrapped(runner.model)
        dist.destroy_process_group()
        gc.collect()
