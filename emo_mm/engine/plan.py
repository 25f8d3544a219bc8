"""From options to the config of a run: the steps in their order, each a function from view and options to edits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from emo_mm.config.edits import Change, apply_edits
from emo_mm.config.names import get_config
from emo_mm.config.view import Purpose, check_parts, read_view
from emo_mm.config.widths import check_widths
from emo_mm.data.derived import derived_elsewhere, derived_folder
from emo_mm.engine.options import EvaluateOptions, RunOptions, TrainOptions
from emo_mm.engine.overrides import merge
from emo_mm.engine.steps import (
    anchors,
    balance,
    data,
    devices,
    hooks,
    input_size,
    loaders,
    monitors,
    schedule,
    start,
    testing,
    trackers,
    val_loss,
)
from emo_mm.errors import UserError

if TYPE_CHECKING:
    from mmengine.config import Config

Step = Callable[[Any, Any], Change]

# What every run does first: data, then what reads them.
RUN: tuple[Step, ...] = (
    monitors.watched_metrics,
    data.lone_class,
    data.local_files,
    data.keep_empty,
    data.no_validation,
    data.work_dir,
    data.data_set,
    devices.launcher,
    data.repaired,
    data.content,
    loaders.batches,
    loaders.cache,
    loaders.coco_metric,
    trackers.local_log,
)
# What a training adds: what fits it to the data, start, schedule, devices, hooks.
# Resuming comes late: it looks at all that was decided.
TRAIN: tuple[Step, ...] = (
    balance.class_weights,
    balance.balance,
    input_size.input_size,
    input_size.small_boxes,
    anchors.anchors,
    trackers.track,
    trackers.local_log,
    start.weights,
    start.freeze,
    schedule.length,
    schedule.learning_rate,
    start.seed,
    devices.device,
    devices.precision,
    devices.fused_optimizer,
    hooks.resumable_loop,
    hooks.safe_checkpoints,
    start.resume,
    hooks.short_logs,
    hooks.patience,
    val_loss.val_loss,
)
# What the command adds that no test of ours wants to see: a bar, and a guard at each step.
WATCH: tuple[Step, ...] = (hooks.progress, hooks.finite_numbers)
TEST: tuple[Step, ...] = (
    testing.reduced_decoding,
    testing.pictures,
    testing.submission,
    testing.deployed_model,
    testing.nothing_of_training,
)


@dataclass(frozen=True)
class Plan:
    """A config that is ready to run.

    Attributes:
        cfg: The config.
        lines: What to print about the data and the decisions taken.
        edits: A line for each setting that was changed.
        scratch: In a dry run, the folder for what a run would write for itself to read; it goes with the plan.
    """

    cfg: Config
    lines: list[str]
    edits: list[str]
    scratch: TemporaryDirectory[str] | None = None

    def show(self) -> None:
        """Print the lines and the edits, as a dry run does."""
        for line in self.lines:
            print(line)
        print(f'{len(self.edits)} settings of {self.cfg.filename} are changed:')
        for line in self.edits:
            print(f'  {line}')
        print('dry run: nothing was trained or written')

    def and_then(self, steps: Sequence[Step], options: RunOptions, purpose: Purpose) -> Plan:
        """Return the plan with more steps taken."""
        scratch = None if self.scratch is None else Path(self.scratch.name)
        with derived_elsewhere(scratch):
            lines, edits = take(self.cfg, steps, options, purpose)
        if scratch is not None:  # told as it will be
            there = derived_folder(self.cfg.work_dir).as_posix()
            lines, edits = ([line.replace(scratch.as_posix(), there) for line in told] for told in (lines, edits))
        return Plan(self.cfg, self.lines + lines, self.edits + edits, self.scratch)


def plan_training(options: TrainOptions) -> Plan:
    """Return the plan of a training.

    Raises:
        UserError: If an option, the config or the data has a fault.
    """
    return plan_run(options, 'train').and_then((*TRAIN, *WATCH), options, 'train')


def plan_test(options: EvaluateOptions) -> Plan:
    """Return the plan of a test.

    Raises:
        UserError: If an option, the config or the data has a fault.
    """
    return plan_run(options, 'test').and_then(TEST, options, 'test')


def plan_run(options: RunOptions, purpose: Purpose) -> Plan:
    """Return the plan of a run with the user's data and options in it, before what only a training or a test adds.

    Raises:
        UserError: If an option, the config or the data has a fault.
    """
    check_numbers(options)
    cfg = get_config(options.config)
    if 'default_scope' not in cfg:
        raise UserError(
            f'config {options.config} has no default_scope (mmdet, mmseg or mmpretrain), which names its task'
        )
    merge(cfg, options.cfg_options)
    check_parts(cfg, purpose)
    check_widths(cfg)
    merged = [f'{key}: set to {value!r} by --cfg-options' for key, value in options.cfg_options.items()]
    scratch = TemporaryDirectory(ignore_cleanup_errors=True) if options.dry_run else None
    return Plan(cfg, [], merged, scratch).and_then(RUN, options, purpose)


def take(cfg: Config, steps: Sequence[Step], options: RunOptions, purpose: Purpose) -> tuple[list[str], list[str]]:
    """Take steps one after another, each from the view of what the ones before left.

    Returns:
        What to print, and a line for each setting that was changed.
    """
    lines: list[str] = []
    edits: list[str] = []
    for step in steps:
        change = step(read_view(cfg, purpose), options)
        edits += apply_edits(cfg, change.edits)
        lines += change.lines
        if change.files:
            data.write_files(change.files, None if options.dry_run else Path(cfg.work_dir))
    return lines, edits


# number on the command line -> what it must be, in words, and whether it is
_NUMBERS: dict[str, tuple[str, Callable[[float], bool]]] = {
    'batch_size': ('at least 1', lambda n: n >= 1),
    'workers': ('at least 0', lambda n: n >= 0),
    'cache_gb': ('above 0', lambda n: n > 0),
    'lr': ('above 0', lambda n: 0 < n < float('inf')),
    'seed': ('0 to 4294967295', lambda n: 0 <= n < 2**32),
    'skip_non_finite': ('at least 0', lambda n: n >= 0),
    'input': ('32 to 8192', lambda n: 32 <= n <= 8192),
    'patience': ('at least 1', lambda n: n >= 1),
}


def check_numbers(options: RunOptions) -> None:
    """Check the numbers that a run was given.

    Raises:
        UserError: If one is out of range.
    """
    for name, (words, fits) in _NUMBERS.items():
        value = getattr(options, name, None)
        if value is not None and not fits(value):
            raise UserError(f'--{name.replace("_", "-")} is {value:g}; it must be {words}')
