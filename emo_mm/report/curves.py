"""Training curves from the scalars that mmengine logs, as one PNG."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from emo_mm.errors import UserError
from emo_mm.tasks import TASKS

# Validation metrics worth a line, best known first, with the axis label that fits them.
_METRIC_NAMES = {
    'coco/segm_mAP': 'mask AP',
    'coco/segm_mAP_50': 'mask AP50',
    'coco/bbox_mAP': 'box AP',
    'coco/bbox_mAP_50': 'box AP50',
    'accuracy/top1': 'top-1 accuracy',
    'accuracy/top5': 'top-5 accuracy',
}
_COLOURS = ('#1f5fa8', '#d9652b', '#3a9150', '#8a5bb0', '#b08a1e', '#4f4f4f')
_GREY = '#666666'
_VAL_LOSS = 'val_loss'  # as ValLossHook logs it


@dataclass(frozen=True)
class Series:
    """One logged quantity.

    Attributes:
        steps: Where it was logged, ascending, shape (n,).
        values: What was logged there, shape (n,).
    """

    steps: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class Scalars:
    """All that a run logged, resumed parts joined.

    Attributes:
        train: Losses, learning rate and the like by name; steps are iterations.
        val: Validation metrics by name; steps are epochs or iterations, see `val_by_epoch`.
        val_by_epoch: Whether the steps of `val` are epochs.
        val_loss: Loss over the validation images, which is among `val` too; steps are iterations. None where none was
            computed.
    """

    train: dict[str, Series]
    val: dict[str, Series]
    val_by_epoch: bool
    val_loss: Series | None = None


@dataclass
class _Record:
    """One line of a scalar file; `iteration` places validation lines among the training lines."""

    iteration: int
    step: int
    is_train: bool
    values: dict[str, float] = field(default_factory=dict)


def read_scalars(work_dir: str | Path) -> Scalars:
    """Read every `<timestamp>/vis_data/scalars.json` of a work directory.

    A later run replaces what an earlier one logged from its first iteration on, so a resumed training reads as one and
    a training that started over hides the old one. Files without a training line, as a test leaves them, are skipped,
    and so is a last line that a killed process left half written.

    Args:
        work_dir: Work directory of a training.

    Returns:
        The joined series.

    Raises:
        UserError: No training was logged there, or a file is damaged.
    """
    work_dir = Path(work_dir)
    records: list[_Record] = []
    for path in sorted(work_dir.glob('*/vis_data/scalars.json')):
        part = _read_file(path)
        first = next((record.iteration for record in part if record.is_train), None)
        if first is None:
            # A resumed training that had nothing left to do but validate; a test alone is at step 0.
            last = records[-1].iteration if records else 0
            records.extend(replace(record, iteration=record.iteration or last) for record in part if record.step)
            continue
        records = [record for record in records if record.iteration < first]
        records.extend(part)
    if not records:
        raise UserError(
            f'{work_dir} holds no training log (<timestamp>/vis_data/scalars.json with training lines): give the '
            f'--work-dir of a training that has run at least one logging interval'
        )
    train = [record for record in records if record.is_train]
    val = [record for record in records if not record.is_train]
    # mmengine counts a validation line in epochs or in iterations and does not say which; epochs lag far behind.
    last_epoch = max((record.values.get('epoch', 0.0) for record in train), default=0.0)
    by_epoch = last_epoch > 0 and all(record.step <= last_epoch for record in val)
    by_iteration = _to_series([replace(record, step=record.iteration) for record in val])
    return Scalars(_to_series(train), _to_series(val), by_epoch, by_iteration.get(_VAL_LOSS))


def _read_file(path: Path) -> list[_Record]:
    records: list[_Record] = []
    iteration = 0
    lines = path.read_text(encoding='utf-8').splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            entry: dict[str, Any] = json.loads(line)
            step = int(entry['step'])
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines):
                break
            raise UserError(f'{path}, line {number} is not a line of mmengine scalars: {line[:80]!r}') from error
        # Only training lines carry the iteration beside the step.
        is_train = 'iter' in entry
        if is_train:
            iteration = step
        # A validation says it where its loss was computed; other ones follow the last line of the training.
        place = iteration if is_train else int(entry.get('iteration', iteration))
        values = {name: float(value) for name, value in entry.items() if isinstance(value, (int, float))}
        records.append(_Record(place, step, is_train, values))
    return records


def _to_series(records: list[_Record]) -> dict[str, Series]:
    points: dict[str, dict[int, float]] = {}
    for record in records:
        for name, value in record.values.items():
            if name not in ('step', 'iter', 'iteration', 'time', 'data_time', 'memory'):
                points.setdefault(name, {})[record.step] = value
    return {
        name: Series(np.array(sorted(by_step)), np.array([by_step[step] for step in sorted(by_step)]))
        for name, by_step in points.items()
    }


def plot_curves(work_dir: str | Path, out_png: str | Path, task: str) -> None:
    """Draw losses, learning rate and validation metrics of a training into one PNG.

    Args:
        work_dir: Work directory of the training.
        out_png: File to write; its folder is made when absent.
        task: A name in ``TASKS``, whose metrics are drawn. Where none of them was logged, all others are.

    Raises:
        ValueError: ``task`` is no such name.
        UserError: As of `read_scalars`.
    """
    if task not in TASKS:
        raise ValueError(f'task must be one of {sorted(TASKS)}, got {task!r}')
    work_dir, out_png = Path(work_dir), Path(out_png)
    scalars = read_scalars(work_dir)
    figure = Figure(figsize=(11, 4.2), dpi=110, layout='constrained')
    FigureCanvasAgg(figure)  # binds the figure to this backend alone, whatever the process has chosen
    loss_axes, metric_axes = figure.subplots(1, 2)
    _draw_losses(loss_axes, scalars)
    _draw_metrics(metric_axes, scalars, task)
    figure.suptitle(_config_name(work_dir), fontweight='bold')
    out_png.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out_png)


def _config_name(work_dir: Path) -> str:
    """Name of the config that mmengine last copied into the work directory, else the directory's own name."""
    configs = sorted(work_dir.glob('*.py'), key=lambda path: path.stat().st_mtime)
    return configs[-1].stem if configs else work_dir.resolve().name


def _draw_losses(axes: Axes, scalars: Scalars) -> None:
    losses = {name: series for name, series in scalars.train.items() if 'loss' in name}
    for (name, series), colour in zip(sorted(losses.items()), _cycle(len(losses)), strict=True):
        axes.plot(series.steps, series.values, color=colour, alpha=0.25, linewidth=0.8)
        marker = 'o' if len(series.steps) == 1 else ''  # one point makes no line
        axes.plot(series.steps, _smooth(series.values), color=colour, linewidth=2, marker=marker, label=name)
    axes.set(xlabel='iteration', ylabel='loss (thin: as logged, thick: smoothed)', title='Training')
    finite = np.concatenate([series.values[np.isfinite(series.values)] for series in losses.values()] or [np.ones(1)])
    validated, room = np.empty(0), 1.1
    if scalars.val_loss is not None:
        line = np.where(np.isfinite(scalars.val_loss.values), scalars.val_loss.values, math.nan)  # gaps
        axes.plot(scalars.val_loss.steps, line, color='black', linewidth=2.5, marker='o', label='validation loss')
        axes.set_title('Training and validation loss')
        validated, room = line[np.isfinite(line)], 1.4  # it may rise to where the legend is
    if finite.size or validated.size:
        axes.set_ylim(0, room * max(_top(finite), _top(validated)) or 1)
    _finish(axes)
    if 'lr' in scalars.train:
        rate = scalars.train['lr']
        right = axes.twinx()
        right.plot(rate.steps, rate.values, color=_GREY, linewidth=1.2, linestyle=':', label='learning rate (right)')
        right.set_ylim(bottom=0)
        right.tick_params(colors=_GREY)
        right.ticklabel_format(axis='y', style='sci', scilimits=(-2, 2))
        right.spines[['top', 'left']].set_visible(False)
        handles, names = axes.get_legend_handles_labels()
        more_handles, more_names = right.get_legend_handles_labels()
        # Drawn by the axes on top, or the learning rate would run through it.
        right.legend(handles + more_handles, names + more_names, fontsize=8, loc='upper right')
    else:
        axes.legend(fontsize=8, loc='upper right')


def _top(values: np.ndarray) -> float:
    """Return how far up some finite losses are worth showing.

    The first iterations of a detector can be many times higher than the rest and would flatten all of it.
    """
    return float(min(values.max(), 2 * np.percentile(values, 90))) if values.size else 0.0


def _draw_metrics(axes: Axes, scalars: Scalars, task: str) -> None:
    metrics = [name for name in scalars.val if 'loss' not in name]
    if not metrics:
        axes.set_axis_off()
        axes.text(0.5, 0.5, 'no validation was logged', transform=axes.transAxes, ha='center', color=_GREY)
        return
    preferred, label = TASKS[task].metrics, TASKS[task].metric_unit
    names = [name for name in preferred if name in metrics]
    if not names:
        names, label = sorted(metrics), 'value'
    for name, colour in zip(names, _cycle(len(names)), strict=True):
        series = scalars.val[name]
        axes.plot(
            series.steps, series.values, color=colour, linewidth=2, marker='o', markersize=4, label=_metric_label(name)
        )
        finite = np.isfinite(series.values)
        if finite.any():
            best = int(np.flatnonzero(finite)[series.values[finite].argmax()])
            axes.annotate(
                f'{series.values[best]:.3g}',
                (series.steps[best], series.values[best]),
                textcoords='offset points',
                xytext=(0, 7),
                ha='center',
                fontsize=9,
                color=colour,
            )
    axes.set(xlabel='epoch' if scalars.val_by_epoch else 'iteration', ylabel=label, title='Validation')
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(x=0.06)
    _finish(axes)
    highest = max(float(np.nanmax(scalars.val[name].values, initial=0.0)) for name in names)
    axes.set_ylim(0, 1.15 * highest or 1)
    axes.legend(fontsize=9, loc='lower right')


def _metric_label(name: str) -> str:
    return _METRIC_NAMES.get(name, name)


def _cycle(count: int) -> list[str]:
    return [_COLOURS[index % len(_COLOURS)] for index in range(count)]


def _finish(axes: Axes) -> None:
    axes.grid(alpha=0.3)
    axes.set_xlim(left=0)
    axes.spines[['top', 'right']].set_visible(False)


def _smooth(values: np.ndarray) -> np.ndarray:
    """Exponential mean over about a twentieth of the series, without the bias of its start and deaf to NaN."""
    keep = 1 - 1 / max(1.0, len(values) / 20)
    total = weight = 0.0
    smoothed = np.empty(len(values))
    for index, value in enumerate(values):
        if math.isfinite(value):
            total = keep * total + (1 - keep) * value
            weight = keep * weight + (1 - keep)
        smoothed[index] = total / weight if weight else math.nan
    return smoothed
