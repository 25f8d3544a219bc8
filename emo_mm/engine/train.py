"""Training, the same code for every task."""

from __future__ import annotations

import copy
import logging
import time
from typing import TYPE_CHECKING, Any

from emo_mm.data.splits import count
from emo_mm.engine.distributed import check_same_number, check_same_start, meet, number_process
from emo_mm.engine.options import TrainOptions
from emo_mm.engine.plan import plan_training
from emo_mm.errors import UserError

if TYPE_CHECKING:
    from mmengine.config import Config
    from mmengine.runner import Runner


FEW_STEPS = 500  # with fewer, a detector from random weights finds next to nothing (docs/own_data.md)


def train(options: TrainOptions) -> dict[str, Any]:
    """Train a model as its config and the options say; leave metrics and pictures in the work directory.

    Returns:
        What ``metrics.json`` of the work directory holds; nothing after a dry run.

    Raises:
        UserError: If the config, an option, the data or the machine has a fault.
        TrainingStopped: If SIGTERM or Ctrl-C stopped it; it is saved.
    """
    plan = plan_training(options)
    check_buildable(plan.cfg)
    if options.dry_run:
        plan.show()
        return {}
    number_process(options.launcher)
    fetch_weights(plan.cfg)
    return _run(plan.cfg, plan.lines, not options.no_report)


def _run(cfg: Config, lines: list[str], with_report: bool) -> dict[str, Any]:
    """Train as a config says, and report."""
    from emo_mm.engine.guard.machine import explain_machine_errors
    from emo_mm.engine.reports.training import report_training
    from emo_mm.engine.resume.signals import TrainingStopped
    from emo_mm.engine.runner import build_runner, shutdown_distributed
    from emo_mm.weights.loading import unwrapped

    meet(cfg)
    check_same_start(cfg)
    runner = build_runner(cfg, lines)
    _forget_trackers(runner)
    _drop_single_last_image(runner)
    _take_single_images(runner)
    _fit_warm_up(runner)
    _tell_of_few_steps(runner)
    check_same_number(_images(runner))
    start = time.monotonic()
    try:
        with explain_machine_errors(cfg):
            runner.train()
    except TrainingStopped:
        shutdown_distributed(runner)
        raise
    if runner.distributed:
        _check_ranks_agree(runner)
    seconds = time.monotonic() - start
    metrics = report_training(runner, unwrapped(runner.model), seconds, lines if with_report else None)
    shutdown_distributed(runner)
    return metrics


def check_buildable(cfg: Config) -> None:
    """Build the model and the optimizer of a config once, to find wrong settings before data are loaded.

    Raises:
        UserError: If one of them cannot be built.
    """
    from mmengine.optim import build_optim_wrapper

    from emo_mm.config.build import build_from_config
    from emo_mm.config.check import explained

    before = logging.root.manager.disable
    logging.disable(logging.INFO)  # MMEngine lists the settings of every parameter, here and when the training starts
    try:
        build_optim_wrapper(build_from_config(cfg), copy.deepcopy(cfg.optim_wrapper))
    except UserError:
        raise
    except Exception as error:  # an optimizer may raise anything at wrong settings
        raise UserError(f'{cfg.filename or "config"}: optim_wrapper cannot be built: {explained(error)}') from error
    finally:
        logging.disable(before)


def fetch_weights(cfg: Config) -> None:
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


def _forget_trackers(runner: Runner) -> None:
    """Take trackers, which are built by now, out of the config that checkpoints carry.

    Who is given a checkpoint shall not log to the accounts of others, and a checkpoint with types that no config of
    ours has is no longer enough to predict.
    """
    visualizer: dict[str, Any] = runner.cfg.get('visualizer') or {}
    if visualizer.get('vis_backends'):
        kept = [one for one in visualizer['vis_backends'] if one.get('type') != 'emo_mm.Tracker']
        visualizer['vis_backends'] = kept


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


def _take_single_images(runner: Runner) -> None:
    """Let a training work whose batches hold one image each, and say what that costs."""
    from emo_mm.engine.single_image import norm_single_pixels

    loader = runner._train_dataloader
    dataset = loader['dataset']
    known = not isinstance(dataset, dict) and hasattr(dataset, '__len__')
    one_image = known and -(-len(dataset) // runner.world_size) == 1
    if (loader.get('batch_size') == 1 or one_image) and norm_single_pixels(runner.model):
        runner.logger.info(
            'batches of one image: BatchNorm layers whose map is a single pixel use their running averages; '
            'larger batches train better'
        )


def _fit_warm_up(runner: Runner) -> None:
    """Shorten a warm-up that would take more than a tenth of the training, and say so."""
    from emo_mm.engine.warm_up import fit_warm_up

    schedulers = runner.param_schedulers
    iterations = _iterations(runner)
    if iterations is None:
        return
    several = schedulers if isinstance(schedulers, list) else [schedulers]
    dicts = [one for one in several if isinstance(one, dict)]
    for line in fit_warm_up(dicts, iterations):
        runner.logger.info(line)


def _tell_of_few_steps(runner: Runner) -> None:
    """Say that a training is too short for a network to learn much, where it is, and how it gets longer."""
    iterations, length = _iterations(runner), runner.cfg.train_cfg
    if iterations is None or iterations >= FEW_STEPS:
        return
    flag, present = ('--iters', iterations) if length.get('max_iters') else ('--epochs', length.max_epochs)
    advised = -(-FEW_STEPS * present // iterations)
    runner.logger.warning(
        f'the whole training has {count(iterations, "iteration")}, few to learn from; {flag} {advised} would make '
        f'{FEW_STEPS}'
    )


def _images(runner: Runner) -> int | None:
    """Return how many images a training has; None where its data set is not built yet."""
    dataset = runner._train_dataloader['dataset']
    return None if isinstance(dataset, dict) else len(dataset)


def _iterations(runner: Runner) -> int | None:
    """Return the iterations of the whole training; None where a sampler of its own decides how long an epoch is."""
    loader, length = runner._train_dataloader, runner.cfg.train_cfg
    iterations: int | None = length.get('max_iters')
    if iterations is not None or isinstance(loader['dataset'], dict):
        return iterations
    images = -(-len(loader['dataset']) // runner.world_size)
    per_epoch = images // loader['batch_size'] if loader.get('drop_last') else -(-images // loader['batch_size'])
    return int(length.max_epochs * max(per_epoch, 1))


def _check_ranks_agree(runner: Runner) -> None:
    """Check that data-parallel training left every process with the same metrics and weights.

    Raises:
        RuntimeError: If it did not, as after a fault in communication: the checkpoint is not to be trusted.
    """
    import torch
    from mmengine.dist import all_gather_object

    # as texts: NaN, which a loss may be, is not equal to itself
    metrics = {k: str(v.current()) for k, v in runner.message_hub.log_scalars.items() if k.startswith('val/')}
    metrics = {k: v for k, v in metrics.items() if not k.endswith('time')}
    with torch.no_grad():
        weights = sum(float(parameter.double().abs().sum()) for parameter in runner.model.parameters())
    for rank, other in enumerate(all_gather_object((metrics, weights))):
        if other != (metrics, weights):
            raise RuntimeError(f'rank {runner.rank} ended with {(metrics, weights)} and rank {rank} with {other}')
    runner.logger.info(f'{len(metrics)} metrics and the weights are equal on {runner.world_size} ranks')
