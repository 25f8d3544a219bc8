"""What a training leaves beside its checkpoints: metrics, curves, sheets of predictions, a report."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from mmengine.dist import is_main_process
from mmengine.runner import EpochBasedTrainLoop

from emo_mm.config.view import task_of
from emo_mm.engine.reports.base import Predicted
from emo_mm.engine.reports.document import Run, write_report
from emo_mm.engine.reports.recording import Recorder, predict_all, share_weights
from emo_mm.engine.reports.rows import report_of
from emo_mm.engine.reports.verdict import verdict
from emo_mm.engine.resume.checkpoints import POINTER
from emo_mm.files import write_json
from emo_mm.report.curves import plot_curves, read_scalars
from emo_mm.report.page import Picture
from emo_mm.version import __version__
from emo_mm.weights import load_model
from emo_mm.weights.checkpoint import note_threshold

if TYPE_CHECKING:
    from mmengine.model import BaseModel
    from mmengine.runner import Runner


def report_training(runner: Runner, model: BaseModel, seconds: float, lines: Sequence[str] | None) -> dict[str, Any]:
    """Predict the validation set with the best checkpoint, and write metrics, pictures and the report.

    All processes of a distributed run predict; the first one writes ``metrics.json``, ``curves.png``,
    ``predictions.png``, ``worst.jpg``, and ``report.html`` with ``report.json`` and ``report.csv``, and notes the best
    score threshold in the checkpoint. Without validation there are metrics and curves only, without a checkpoint marked
    best the last one is looked at.

    Args:
        runner: The runner after training.
        model: Its model, without a data-parallel wrapper.
        seconds: How long the training took.
        lines: What was printed about the data and the decisions taken; None for metrics and curves only.

    Returns:
        What ``metrics.json`` holds; nothing on other processes than the first.
    """
    work_dir = Path(runner.work_dir)
    checkpoint = best_checkpoint(work_dir) if is_main_process() else None
    recorder, figures = _validate(runner, model, checkpoint) if lines is not None else (None, {})
    if not is_main_process():
        return {}
    metrics = _metrics(runner, checkpoint, seconds, figures)
    write_json(work_dir / 'metrics.json', metrics)
    plot_curves(work_dir, work_dir / 'curves.png', task_of(runner.cfg).name)
    loop = runner.train_loop
    by_epoch = isinstance(loop, EpochBasedTrainLoop)
    length = loop.max_epochs if by_epoch else loop.max_iters
    told = verdict(task_of(runner.cfg), figures, length, by_epoch, runner.iter, lines or ())
    if told is not None:
        runner.logger.warning(told)
    written = 'metrics and curves'
    if recorder is not None and lines is not None:
        predicted = Predicted(runner.val_dataloader.dataset, model, recorder.records)
        curves = Picture.of_file(work_dir / 'curves.png', 'Curves of the training', 'Validation marks its best value.')
        run = Run(runner, 'training', 'validation', figures, lines, (('checkpoint', metrics['checkpoint']),), (curves,))
        threshold = write_report(run, predicted, recorder.failed, 'report', 'predictions.png', 'worst.jpg')
        if threshold is not None and checkpoint is not None:
            note_threshold(checkpoint, threshold)
            runner.logger.info(f'{checkpoint.name} shows boxes that score above {threshold:.2f}, where F1 is best')
        written = 'report.html, metrics, curves and pictures'
    runner.logger.info(f'{written} are in {work_dir}')
    return metrics


def _validate(runner: Runner, model: BaseModel, checkpoint: Path | None) -> tuple[Recorder | None, dict[str, float]]:
    """Return records and metrics of the validation set with the weights of a checkpoint; none without such a set."""
    if runner.val_loop is None:
        return None, {}
    if checkpoint is not None:
        # Not through the runner: after a resumption its EMAHook would give back the weights that are not averaged.
        load_model(model, checkpoint)
    share_weights(model)
    runner.logger.info('the report: the validation set is predicted once more, with the best checkpoint')
    task = report_of(task_of(runner.cfg))
    recorder = Recorder(task.record)
    figures = predict_all(model, runner.val_dataloader, runner.val_loop.evaluator, recorder)
    return recorder, {name: float(value) for name, value in figures.items()}


def _metrics(runner: Runner, checkpoint: Path | None, seconds: float, best: dict[str, float]) -> dict[str, Any]:
    """Return what ``metrics.json`` holds."""
    scalars = read_scalars(runner.work_dir)
    return {
        'config': Path(runner.cfg.filename).stem,
        'checkpoint': checkpoint.name if checkpoint else None,
        'best_score': _plain(runner.message_hub.runtime_info.get('best_score')),
        'best': best,
        'last': {name: series.values[-1].item() for name, series in scalars.val.items()},
        'history': {
            name: {'step': series.steps.tolist(), 'value': series.values.tolist()}
            for name, series in scalars.val.items()
        },
        'steps_are': 'epochs' if scalars.val_by_epoch else 'iterations',
        'seconds': round(seconds, 1),
        'threads': torch.get_num_threads(),
        'device': torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or 'cpu',
        'versions': {'emo_mm': __version__, 'torch': torch.__version__},
    }


def best_checkpoint(work_dir: Path) -> Path | None:
    """Return the best checkpoint of a work directory, the last one where none is marked, None where there is none."""
    best = sorted(work_dir.glob('best_*.pth'), key=lambda path: path.stat().st_mtime)
    if best:
        return best[-1]
    pointer = work_dir / POINTER
    last = work_dir / Path(pointer.read_text().strip()).name if pointer.is_file() else None
    return last if last is not None and last.is_file() else None


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, 'item') else value
