"""Training and testing, the same code for the three tasks."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emo_mm.compat import quieten_coco_reader, register_toolbox
from emo_mm.config.check import explained
from emo_mm.engine.cpu.allocator import keep_freed_memory
from emo_mm.engine.options import RunOptions, TrainOptions, apply_train_options, load_run_config
from emo_mm.errors import UserError
from emo_mm.files import write_json

if TYPE_CHECKING:
    from mmengine.config import Config
    from mmengine.runner import Runner


def train(options: TrainOptions) -> dict[str, Any]:
    """Train a model as its config and the options say; leave metrics and pictures in the work directory.

    Returns:
        What ``metrics.json`` of the work directory holds.

    Raises:
        UserError: If the config, an option, the data or the machine has a fault.
        TrainingStopped: If SIGTERM or Ctrl-C stopped it; it is saved.
    """
    from emo_mm.engine.guard.finite import guard_numbers
    from emo_mm.engine.guard.machine import explain_machine_errors
    from emo_mm.engine.report import write_report
    from emo_mm.engine.resume.signals import TrainingStopped
    from emo_mm.weights.loading import unwrapped

    cfg, lines = load_run_config(options, training=True)
    lines += apply_train_options(cfg, options)
    _fetch_weights(cfg)
    cfg.custom_hooks = [*cfg.get('custom_hooks', []), dict(type='emo_mm.ProgressHook')]
    guard_numbers(cfg, options.skip_non_finite)
    runner = build_runner(cfg, lines)
    _drop_single_last_image(runner)
    _fit_warm_up(runner)
    start = time.monotonic()
    try:
        with explain_machine_errors(cfg):
            runner.train()
    except TrainingStopped:
        leave_group(runner)
        raise
    if runner.distributed:
        _check_ranks_agree(runner)
    report = write_report(runner, unwrapped(runner.model), seconds=time.monotonic() - start)
    leave_group(runner)
    return report


def _fetch_weights(cfg: Config) -> None:
    """Download the weights that a training starts from before anything else is built.

    Raises:
        UserError: If they cannot be loaded; the message says how to train without.
    """
    from emo_mm.weights import PUBLISHED, resolve_weights

    part: Any = cfg
    for key in ('model', 'backbone', 'init_cfg'):
        part = part.get(key) if isinstance(part, dict | type(cfg)) else None
    pretrained = isinstance(part, dict) and part.get('type') == 'Pretrained'
    weights = str(part.get('checkpoint')) if pretrained else ''
    # names of other libraries, such as torchvision://, are MMEngine's to resolve
    if weights not in PUBLISHED and not weights.startswith(('https://', 'http://', 'hf://')):
        return
    try:
        resolve_weights(weights)
    except UserError as error:
        raise UserError(f'{error}; or train from scratch: --weights none') from None


def evaluate(
    options: RunOptions,
    checkpoint: str,
    out: str | None = None,
    show_dir: str | None = None,
    format_only: bool = False,
    reduced_decoding: bool = False,
) -> dict[str, float]:
    """Evaluate a checkpoint or a deployed file on the test set of a config.

    Args:
        options: The run.
        checkpoint: The checkpoint, with every tensor of the model; or an exported file (``.onnx``, ``.xml``), which
            then runs in its own runtime.
        out: JSON file to write the metrics to; ``test_metrics.json`` of the work directory if None.
        show_dir: Folder for pictures of the predictions; none if None.
        format_only: Whether to write the files that a test server takes, to ``submission`` in the work directory,
            instead of computing metrics: no truth is needed then.
        reduced_decoding: Whether to decode JPEG files far larger than needed at a fraction of their size.

    Returns:
        The metrics; none where only files were written.

    Raises:
        UserError: If the config, an option, the checkpoint or the data has a fault.
    """
    from emo_mm.config.carried import doubt_about
    from emo_mm.data.speed.fast_loading import use_reduced_decoding
    from emo_mm.engine.guard.machine import explain_machine_errors
    from emo_mm.runtime.sessions import is_deployed
    from emo_mm.weights import load_model, read_checkpoint
    from emo_mm.weights.hub import local_model
    from emo_mm.weights.loading import unwrapped

    checkpoint = local_model(checkpoint)
    if reduced_decoding and options.cache is not None:
        raise UserError('--reduced-decoding and --cache exclude each other: an image is decoded whole to be kept')
    if reduced_decoding and is_deployed(checkpoint):
        raise UserError(f'--reduced-decoding: {checkpoint} reads the images itself, and whole')
    cfg, lines = load_run_config(options, training=False)
    if reduced_decoding:
        lines += use_reduced_decoding(cfg)
    if show_dir is not None:
        _draw_predictions(cfg, str(Path(show_dir).resolve()))
    if format_only:
        _write_submission(cfg, Path(cfg.work_dir) / 'submission')
    # A test needs none of the parts of a training, whose data may not be here; some hooks would have them built.
    for key in ('train_cfg', 'train_dataloader', 'optim_wrapper', 'param_scheduler'):
        cfg[key] = None
    weights = None
    if is_deployed(checkpoint):
        from emo_mm.engine.deployed import use_deployed

        meta = {'dataset_meta': {'classes': use_deployed(cfg, checkpoint).classes}}
    else:
        weights = read_checkpoint(checkpoint)  # before anything slow
        meta = weights.meta
        doubt = doubt_about(cfg, meta, checkpoint)
        if doubt:
            lines.append(f'WARNING: {doubt}')
    runner = build_runner(cfg, lines)
    _check_classes(runner, meta, checkpoint)
    if weights is not None:
        load_model(unwrapped(runner.model), weights)
    with explain_machine_errors(cfg):
        metrics = {key: float(value) for key, value in runner.test().items()}
    if runner.rank == 0 and not format_only:
        path = Path(out) if out else Path(cfg.work_dir) / 'test_metrics.json'
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {'config': options.config, 'checkpoint': checkpoint, 'metrics': metrics})
    leave_group(runner)
    return metrics


def _check_classes(runner: Runner, meta: dict[str, Any], checkpoint: str) -> None:
    """Check that a checkpoint was trained for the classes of the test set, in their order.

    Raises:
        UserError: If not: every figure would be computed on swapped classes.
    """
    trained = (meta.get('dataset_meta') or {}).get('classes')
    tested = runner.test_dataloader.dataset.metainfo.get('classes')
    if trained and tested and tuple(trained) != tuple(tested):
        raise UserError(
            f'{checkpoint} was trained for the classes {", ".join(trained)}, and the test set has {", ".join(tested)}: '
            f'test it on its own data (--data-root), whose classes must come in the same order'
        )


def _drop_single_last_image(runner: Runner) -> None:
    """Drop the last batch of an epoch where it would hold one image alone.

    BatchNorm cannot train on one image whose map is a single pixel, as the last map of SSD is, and would stop there.
    """
    from mmengine.registry import DATASETS

    loader = runner._train_dataloader  # still a dict: mmengine builds it when training starts
    if loader.get('batch_sampler') is not None or loader['sampler'].get('type') == 'InfiniteSampler':
        return
    loader['dataset'] = dataset = DATASETS.build(loader['dataset'])
    if hasattr(dataset, 'full_init'):
        dataset.full_init()
    per_rank = -(-len(dataset) // runner.world_size)
    batch_size = loader['batch_size']
    if per_rank > batch_size > 1 and per_rank % batch_size == 1:
        loader['drop_last'] = True
        runner.logger.info(f'{per_rank} images in batches of {batch_size}: the single image left over is dropped')


def _fit_warm_up(runner: Runner) -> None:
    """Shorten a warm-up that would take more than a tenth of the training, and say so."""
    from emo_mm.engine.warm_up import fit_warm_up

    schedulers = runner.param_schedulers
    loader, length = runner._train_dataloader, runner.cfg.train_cfg
    iterations = length.get('max_iters')
    if iterations is None:
        if isinstance(loader['dataset'], dict):  # a sampler of its own, which decides how long an epoch is
            return
        images = -(-len(loader['dataset']) // runner.world_size)
        per_epoch = images // loader['batch_size'] if loader.get('drop_last') else -(-images // loader['batch_size'])
        iterations = length.max_epochs * max(per_epoch, 1)
    several = schedulers if isinstance(schedulers, list) else [schedulers]
    dicts = [one for one in several if isinstance(one, dict)]
    for line in fit_warm_up(dicts, iterations):
        runner.logger.info(line)


def _check_ranks_agree(runner: Runner) -> None:
    """Check that data-parallel training left every process with the same metrics and weights.

    Raises:
        RuntimeError: If it did not, as after a fault in communication: the checkpoint is not to be trusted.
    """
    import torch
    from mmengine.dist import all_gather_object

    metrics = {k: v.current() for k, v in runner.message_hub.log_scalars.items() if k.startswith('val/')}
    metrics = {k: v for k, v in metrics.items() if not k.endswith('time')}
    with torch.no_grad():
        weights = sum(float(parameter.double().abs().sum()) for parameter in runner.model.parameters())
    for rank, other in enumerate(all_gather_object((metrics, weights))):
        if other != (metrics, weights):
            raise RuntimeError(f'rank {runner.rank} ended with {(metrics, weights)} and rank {rank} with {other}')
    runner.logger.info(f'{len(metrics)} metrics and the weights are equal on {runner.world_size} ranks')


def leave_group(runner: Runner) -> None:
    """End a distributed run in all its processes together, once the first one has written what it writes.

    A process that leaves while its communication threads run may be aborted by them, and torchrun then kills the others
    at their work. The threads end with the last reference to the group, which the wrapped model holds.
    """
    import gc

    import torch.distributed as dist

    from emo_mm.weights.loading import unwrapped

    if dist.is_available() and dist.is_initialized():
        dist.barrier()
        runner.model = unwrapped(runner.model)
        dist.destroy_process_group()
        gc.collect()


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


def _write_submission(cfg: Config, folder: Path) -> None:
    """Let the evaluator of a test write what the test servers of COCO and ADE20K take, and compute nothing."""
    if cfg.default_scope not in ('mmdet', 'mmseg'):
        raise UserError('--format-only is for detection (COCO) and segmentation (ADE20K)')
    folder.mkdir(parents=True, exist_ok=True)
    evaluator = cfg.test_evaluator
    if cfg.default_scope == 'mmdet':
        evaluator.update(format_only=True, outfile_prefix=str(folder / 'results'))
    else:
        evaluator.update(format_only=True, output_dir=str(folder))


def build_runner(cfg: Config, lines: list[str]) -> Runner:
    """Build the runner of a config, on GPUs or CPUs, in one process or many; print ``lines`` once."""
    import torch
    from mmengine.runner import Runner

    from emo_mm.engine.cpu.runner import cpu_runner
    from emo_mm.weights import use_safe_loading

    class QuietRunner(Runner):
        def build_logger(self, log_level: Any = 'INFO', log_file: str | None = None, **settings: Any) -> Any:
            logger = super().build_logger(log_level, log_file, **settings)
            for handler in logger.handlers:
                if not isinstance(handler, logging.FileHandler):
                    handler.addFilter(_is_for_the_screen)
            return logger

    register_toolbox(cfg.default_scope)
    quieten_coco_reader()
    use_safe_loading()  # for what MMEngine itself reads: --resume, load_from
    on_cpu = not torch.cuda.is_available()
    if on_cpu:
        keep_freed_memory()
    if int(os.environ.get('RANK', 0)) == 0:
        for line in lines:
            print(line, flush=True)
    try:
        between_cpus = on_cpu and cfg.launcher != 'none'
        runner = cpu_runner(cfg, QuietRunner) if between_cpus else QuietRunner.from_cfg(cfg)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
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
)


def _is_for_the_screen(record: logging.LogRecord) -> bool:
    return not any(words in str(record.msg)[:200] for words in _FOR_THE_LOG_FILE)
