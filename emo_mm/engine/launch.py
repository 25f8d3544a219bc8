"""Training and testing, the same code for the three tasks."""

from __future__ import annotations

import json
import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emo_mm.compat import convert_sync_batchnorm_for_cpu, register_toolbox, use_cpu_process_group
from emo_mm.engine.allocator import keep_freed_memory
from emo_mm.engine.options import RunOptions, TrainOptions, apply_train_options, load_run_config
from emo_mm.errors import UserError

if TYPE_CHECKING:
    from mmengine.config import Config
    from mmengine.runner import Runner


def train(options: TrainOptions) -> dict[str, Any]:
    """Train a model as its config and the options say; leave metrics and pictures in the work directory.

    Returns:
        What ``metrics.json`` of the work directory holds.

    Raises:
        UserError: If the config, an option or the data has a fault.
    """
    from emo_mm.engine.report import write_report

    cfg, lines = load_run_config(options, training=True)
    lines += apply_train_options(cfg, options)
    cfg.custom_hooks = [*cfg.get('custom_hooks', []), dict(type='emo_mm.ProgressHook')]
    runner = _build_runner(cfg, lines)
    start = time.monotonic()
    runner.train()
    return write_report(runner, seconds=time.monotonic() - start)


def evaluate(
    options: RunOptions, checkpoint: str, out: str | None = None, show_dir: str | None = None
) -> dict[str, float]:
    """Evaluate a checkpoint on the test set of a config.

    Args:
        options: The run.
        checkpoint: The checkpoint; every tensor of the model must be in it.
        out: JSON file to write the metrics to; ``test_metrics.json`` of the work directory if None.
        show_dir: Folder for pictures of the predictions; none if None.

    Returns:
        The metrics.

    Raises:
        UserError: If the config, an option, the checkpoint or the data has a fault.
    """
    from emo_mm.weights import load_model, read_checkpoint

    cfg, lines = load_run_config(options, training=False)
    if show_dir is not None:
        _draw_predictions(cfg, str(Path(show_dir).resolve()))
    weights = read_checkpoint(checkpoint)  # before anything slow
    runner = _build_runner(cfg, lines)
    load_model(_unwrapped(runner.model), weights)
    metrics = {key: float(value) for key, value in runner.test().items()}
    if runner.rank == 0:
        path = Path(out) if out else Path(cfg.work_dir) / 'test_metrics.json'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({'config': options.config, 'checkpoint': checkpoint, 'metrics': metrics}, indent=1))
    return metrics


def _draw_predictions(cfg: Config, folder: str) -> None:
    """Let the toolbox draw the predictions of a test into a folder; each one has settings of its own for it."""
    hook = cfg.default_hooks.visualization
    if cfg.default_scope == 'mmdet':
        hook.update(draw=True, test_out_dir=folder)
    elif cfg.default_scope == 'mmseg':
        hook.update(draw=True, interval=1)
        cfg.visualizer.save_dir = folder
    else:
        hook.update(enable=True, interval=1, out_dir=folder)


def _build_runner(cfg: Config, lines: list[str]) -> Runner:
    """Build the runner of a config, on GPUs or CPUs, in one process or many; print ``lines`` once."""
    import torch
    from mmengine.runner import Runner

    from emo_mm.weights import use_safe_loading

    register_toolbox(cfg.default_scope)
    use_safe_loading()  # for what MMEngine itself reads: --resume, load_from
    on_cpu = not torch.cuda.is_available()
    if on_cpu:
        keep_freed_memory()
        if cfg.launcher != 'none':
            use_cpu_process_group(cfg)
    if int(os.environ.get('RANK', 0)) == 0:
        for line in lines:
            print(line, flush=True)
    try:
        runner = Runner.from_cfg(cfg)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f'the config cannot be built: {error}') from error
    _quieten(runner)
    if on_cpu and runner.distributed:
        count = convert_sync_batchnorm_for_cpu(runner.model)
        if runner.rank == 0:
            runner.logger.info(f'{count} BatchNorm layers are synchronised over {runner.world_size} processes')
    return runner


def _quieten(runner: Runner) -> None:
    """Keep the hundreds of lines about the settings of each parameter off the screen; the log file has them."""
    for handler in runner.logger.handlers:
        if not isinstance(handler, logging.FileHandler):
            handler.addFilter(lambda record: not str(record.msg).startswith('paramwise_options'))


def _unwrapped(model: Any) -> Any:
    from mmengine.model import is_model_wrapper

    return model.module if is_model_wrapper(model) else model
