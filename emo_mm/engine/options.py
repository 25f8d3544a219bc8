"""What a run is asked to do, and the config that does it."""

from __future__ import annotations

import difflib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emo_mm.compat import register_toolbox, use_faster_coco_metric
from emo_mm.config.check import check_arguments
from emo_mm.config.names import find_config, get_config
from emo_mm.config.parts import split_datasets
from emo_mm.data.checks import training_splits
from emo_mm.data.splits import SPLITS, DataRequest
from emo_mm.errors import UserError

if TYPE_CHECKING:
    from mmengine.config import Config

# What mmengine's Runner and the entry points read from a config, beside what a config of ours has.
_RUNNER_KEYS = {
    'auto_scale_lr', 'cfg', 'compile', 'custom_hooks', 'custom_imports', 'data_preprocessor', 'default_hooks',
    'default_scope', 'env_cfg', 'experiment_name', 'find_unused_parameters', 'launcher', 'load_from', 'log_level',
    'log_processor', 'model', 'model_wrapper_cfg', 'optim_wrapper', 'param_scheduler', 'randomness', 'resume',
    'runner_type', 'sync_bn', 'test_cfg', 'test_dataloader', 'test_evaluator', 'train_cfg', 'train_dataloader',
    'val_cfg', 'val_dataloader', 'val_evaluator', 'visualizer', 'work_dir',
}  # fmt: skip


@dataclass
class RunOptions:
    """What the command line of ``train`` and ``test`` gives.

    Attributes:
        config: Name or path of the config.
        work_dir: Where logs, checkpoints and pictures go; ``work_dirs/<name>`` if None.
        cfg_options: Dotted keys of the config to new values.
        launcher: ``none``, ``pytorch``, ``slurm`` or ``mpi``.
        data: The user's own data set, or another place of the config's; empty for the config's data as they are.
        batch_size: Training images per process.
        workers: Loader processes per process.
        cache: Where to keep decoded images, ``ram`` or ``disk``; None decodes them each time.
        cache_gb: What those may take, in 10^9 bytes; half of what is free if None.
        check: How images are checked before the run: ``quick`` or ``full``; None passes over the check.
        bad_data: What to do about faulty images and annotations: ``error`` or ``skip``.
    """

    config: str
    work_dir: str | None = None
    cfg_options: dict[str, Any] = field(default_factory=dict)
    launcher: str = 'none'
    data: DataRequest = field(default_factory=DataRequest)
    batch_size: int | None = None
    workers: int | None = None
    cache: str | None = None
    cache_gb: float | None = None
    check: str | None = 'quick'
    bad_data: str = 'error'


@dataclass
class TrainOptions(RunOptions):
    """What the command line of ``train`` gives beyond that.

    Attributes:
        resume: ``auto`` for the newest checkpoint of the work directory, or a checkpoint.
        amp: Whether to train in mixed precision.
        auto_scale_lr: Whether to scale the learning rate with the total batch size.
        weights: Weights to start the backbone from (a path, an address or the name of published weights), or ``none``
            to train from scratch; None keeps what the config says.
        epochs: Length of the training; the schedule is stretched to it.
        iters: The same for a training counted in iterations.
        lr: Base learning rate.
        seed: Seed of the random number generators.
        skip_non_finite: Steps that may be left out where the loss or a gradient is not finite, before that is an error.
    """

    resume: str | None = None
    amp: bool = False
    auto_scale_lr: bool = False
    weights: str | None = None
    epochs: int | None = None
    iters: int | None = None
    lr: float | None = None
    seed: int | None = None
    skip_non_finite: int = 0


def load_run_config(options: RunOptions, training: bool) -> tuple[Config, list[str]]:
    """Return the config of a run with the user's data and options in it, and lines to print about the data.

    Args:
        options: The run.
        training: Whether all splits must be there, or that of the test only.

    Raises:
        UserError: If an option, the config or the data has a fault.
    """
    from emo_mm.data.apply import apply_data
    from emo_mm.data.checks import check_content, check_data
    from emo_mm.data.speed.fast_loading import cache_images

    _check_numbers(options)
    cfg = get_config(options.config)
    if 'default_scope' not in cfg:
        raise UserError(
            f'config {options.config} has no default_scope (mmdet, mmseg or mmpretrain), which names its task'
        )
    _merge(cfg, options.cfg_options)
    _check_parts(cfg, training)
    _take_a_lone_class_as_one(cfg, training)
    checked = options.check is not None
    if options.data.given:
        lines = apply_data(cfg, options.data, training, tolerant=checked)
    else:
        lines = check_data(cfg, training, tolerant=checked)
    cfg.launcher = options.launcher
    cfg.work_dir = options.work_dir or cfg.get('work_dir') or f'work_dirs/{find_config(options.config).stem}'
    _check_work_dir(Path(cfg.work_dir))
    if options.check is not None:
        lines += check_content(cfg, training, options.check, options.bad_data)
    if options.batch_size is not None:
        cfg.train_dataloader.batch_size = options.batch_size
    if options.workers is not None:
        for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
            loader.num_workers = options.workers
            loader.persistent_workers = options.workers > 0
    if options.cache is not None:
        lines += cache_images(cfg, options.cache, options.cache_gb)
    elif options.cache_gb is not None:
        raise UserError('--cache-gb is the size of a cache; say --cache ram or --cache disk too')
    use_faster_coco_metric(cfg)
    return cfg, lines


# number on the command line -> what it must be, in words, and whether it is
_NUMBERS: dict[str, tuple[str, Callable[[float], bool]]] = {
    'batch_size': ('at least 1', lambda n: n >= 1),
    'workers': ('at least 0', lambda n: n >= 0),
    'cache_gb': ('above 0', lambda n: n > 0),
    'lr': ('above 0', lambda n: 0 < n < float('inf')),
    'seed': ('0 to 4294967295', lambda n: 0 <= n < 2**32),
    'skip_non_finite': ('at least 0', lambda n: n >= 0),
}


def _check_numbers(options: RunOptions) -> None:
    """Check the numbers that a run was given.

    Raises:
        UserError: If one is out of range.
    """
    for name, (words, fits) in _NUMBERS.items():
        value = getattr(options, name, None)
        if value is not None and not fits(value):
            raise UserError(f'--{name.replace("_", "-")} is {value:g}; it must be {words}')


def apply_train_options(cfg: Config, options: TrainOptions) -> list[str]:
    """Put the options of a training into its config; return lines to print.

    Raises:
        UserError: If an option does not fit the config, or there is no complete checkpoint to resume from.
    """
    from emo_mm.engine.resume.resuming import make_resumable, resume

    lines = []
    if options.weights == 'none':
        backbone = cfg.model.backbone
        backbone.pop('init_cfg', None)
        # Statistics and layers that were never trained must not be frozen.
        changed = {k: v for k, v in (('norm_eval', False), ('frozen_stages', -1)) if backbone.get(k, v) != v}
        backbone.update(changed)
        note = f' with {", ".join(f"{k}={v}" for k, v in changed.items())}' if changed else ''
        lines.append(f'the backbone starts from random weights{note}')
    elif options.weights is not None:
        cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=options.weights)
    if options.epochs is not None or options.iters is not None:
        set_length(cfg, options.epochs, options.iters)
    if options.lr is not None:
        cfg.optim_wrapper.optimizer.lr = options.lr
    if options.seed is not None:
        cfg.randomness = dict(seed=options.seed)
    if options.amp:
        _use_amp(cfg)
    lines += _use_float32_on_cpu(cfg)
    _use_fused_optimizer(cfg)
    if options.auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            raise UserError(f'--auto-scale-lr: the config {options.config} has no auto_scale_lr.base_batch_size')
        cfg.auto_scale_lr.enable = True
    lines += make_resumable(cfg)
    asked = options.resume or ((cfg.get('load_from') or 'auto') if cfg.get('resume') else None)
    if asked is not None:
        lines += resume(cfg, asked)
    _log_short_runs(cfg)
    return lines


def _use_fused_optimizer(cfg: Config) -> None:
    """Let Adam and AdamW do a step in one kernel for each parameter: the same step with fewer calls."""
    import torch

    optimizer = cfg.optim_wrapper.get('optimizer', {})
    # Before 2.4 PyTorch had the kernels for GPUs only.
    if optimizer.get('type') in ('Adam', 'AdamW') and tuple(map(int, torch.__version__.split('.')[:2])) >= (2, 4):
        optimizer.setdefault('fused', True)


def set_length(cfg: Config, epochs: int | None, iters: int | None) -> None:
    """Change the length of a training and stretch its schedules in proportion, but for warm-ups counted in iterations.

    Raises:
        UserError: If the config counts in the other unit, or the length is below 1.
    """
    by_epoch = 'max_epochs' in cfg.train_cfg
    length = epochs if by_epoch else iters
    if length is None or (epochs is not None and iters is not None):
        raise UserError(f'this config counts in {"epochs: use --epochs" if by_epoch else "iterations: use --iters"}')
    if length < 1:
        raise UserError(f'{"--epochs" if by_epoch else "--iters"} is {length}; it must be at least 1')
    key = 'max_epochs' if by_epoch else 'max_iters'
    factor = length / cfg.train_cfg[key]
    old = cfg.train_cfg[key]
    cfg.train_cfg[key] = length
    cfg.train_cfg.val_interval = min(cfg.train_cfg.get('val_interval', 1), length)
    for scheduler in cfg.param_scheduler if isinstance(cfg.param_scheduler, list) else [cfg.param_scheduler]:
        is_warm_up = scheduler.get('end', old) < old
        if scheduler.get('by_epoch', True) != by_epoch or (is_warm_up and not by_epoch):
            continue
        for part in ('begin', 'end', 'T_max'):
            if part in scheduler:
                scheduler[part] = max(round(scheduler[part] * factor), int(part != 'begin'))


def _merge(cfg: Config, changes: dict[str, Any]) -> None:
    """Merge dotted keys into a config, refusing a first part that nothing reads."""
    known = set(cfg.keys()) | _RUNNER_KEYS
    for key in changes:
        first = key.split('.')[0]
        if first not in known:
            near = difflib.get_close_matches(first, known, n=1)
            hint = f'; did you mean {near[0]}?' if near else ''
            raise UserError(f'--cfg-options {key}: the config has no {first!r}{hint}')
    try:
        cfg.merge_from_dict(changes)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise UserError(f'--cfg-options {" ".join(changes)}: {error}') from error
    register_toolbox(cfg.default_scope)
    try:
        check_arguments(cfg, changes)
    except UserError as error:
        raise UserError(f'--cfg-options {error}') from None


def _check_parts(cfg: Config, training: bool) -> None:
    """Check that the parts that a run reads are dicts, before any of them is read.

    Raises:
        UserError: If one is something else, or is left out though the run needs it.
    """
    for split in SPLITS:
        wanted = training if split == 'train' else split == 'test' and not training
        for part in (f'{split}_cfg', f'{split}_dataloader'):
            if wanted or cfg.get(part) is not None:
                _check_dict(part, cfg.get(part))
        loader = cfg.get(f'{split}_dataloader')
        if loader is not None:
            _check_dict(f'{split}_dataloader.dataset', loader.get('dataset'))
    if training:
        _check_dict('optim_wrapper', cfg.get('optim_wrapper'))
        _check_dict('optim_wrapper.optimizer', cfg.optim_wrapper.get('optimizer', {}))
    hooks = cfg.get('default_hooks', {})
    _check_dict('default_hooks', hooks)
    for name, hook in hooks.items():
        if hook is not None:
            _check_dict(f'default_hooks.{name}', hook, ', or None to leave it out')
    for where, counts, keys in (
        ('train_cfg', cfg.get('train_cfg') or {}, ('max_epochs', 'max_iters')),
        ('default_hooks.logger', hooks.get('logger') or {}, ('interval',)),
    ):
        for key in keys if training else ():
            if key in counts and type(counts[key]) is not int:
                raise UserError(f'{where}.{key} is {counts[key]!r}; it must be a whole number')
    for part in ('custom_hooks', 'param_scheduler', 'val_evaluator', 'test_evaluator'):
        several = cfg.get(part) or []
        for one in several if isinstance(several, list) else [several]:
            if not isinstance(one, dict):
                raise UserError(f'{part} has {one!r}; its entries must be dicts')


def _take_a_lone_class_as_one(cfg: Config, training: bool) -> None:
    """Read ``classes=('cat')``, which Python takes for a text, as one class; toolboxes would read c, a and t."""
    for split in training_splits(training):
        for dataset in split_datasets(cfg, split):
            known = dataset.get('metainfo')
            if isinstance(known, dict) and isinstance(known.get('classes'), str):
                known['classes'] = (known['classes'],)


def _check_dict(name: str, value: Any, otherwise: str = '') -> None:
    if not isinstance(value, dict):
        raise UserError(f'{name} is {value!r}; it must be a dict{otherwise}')


def _use_amp(cfg: Config) -> None:
    import torch

    if not torch.cuda.is_available():
        raise UserError('--amp needs a GPU: on a CPU mixed precision is slower than float32; leave the flag out')
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    cfg.optim_wrapper.loss_scale = 'dynamic'


def _use_float32_on_cpu(cfg: Config) -> list[str]:
    """Take the plain optimizer wrapper where MMEngine's for mixed precision, which needs a GPU, could not be built."""
    import torch

    wrapper = cfg.optim_wrapper
    if wrapper.get('type') != 'AmpOptimWrapper' or torch.cuda.is_available():
        return []
    wrapper.type = 'OptimWrapper'
    for key in ('loss_scale', 'dtype', 'use_fsdp'):
        wrapper.pop(key, None)
    return ['there is no GPU, so this trains in float32 instead of mixed precision']


def _log_short_runs(cfg: Config) -> None:
    """Log at least once in a training of few iterations: without a loss there is no curve to draw."""
    logger = cfg.get('default_hooks', {}).get('logger')
    if logger is not None and 'max_iters' in cfg.train_cfg:
        logger.interval = max(1, min(logger.get('interval', 10), cfg.train_cfg.max_iters))


def _check_work_dir(work_dir: Path) -> None:
    try:
        work_dir.mkdir(parents=True, exist_ok=True)
        # a file without a name: the processes of a distributed run probe at the same moment
        with tempfile.TemporaryFile(dir=work_dir):
            pass
    except OSError as error:
        raise UserError(
            f'work directory {work_dir} cannot be written: {error.strerror}; give another --work-dir'
        ) from error
