"""What a test leaves: metrics, and a report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmengine.dist import is_main_process

from emo_mm.config.view import task_of
from emo_mm.engine.reports.base import Predicted
from emo_mm.engine.reports.document import Run, write_report
from emo_mm.engine.reports.recording import Recorder
from emo_mm.engine.reports.rows import report_of
from emo_mm.weights.loading import unwrapped

if TYPE_CHECKING:
    from mmengine.runner import Runner


def recorder_for(runner: Runner) -> Recorder:
    """Return a recorder of what a runner predicts in its test, which is to come."""
    recorder = Recorder(report_of(task_of(runner.cfg)).record)
    recorder.dataset_meta = runner.test_dataloader.dataset.metainfo
    runner.test_evaluator.metrics.append(recorder)
    return recorder


def report_test(
    runner: Runner,
    recorder: Recorder,
    metrics: dict[str, float],
    checkpoint: str,
    threshold: float | None,
    lines: Sequence[str],
) -> None:
    """Write ``test_report.html``, ``.json`` and ``.csv`` and ``test_worst.jpg`` into the work directory.

    Args:
        runner: The runner after the test.
        recorder: What was predicted.
        metrics: The metrics.
        checkpoint: What was tested.
        threshold: Score threshold that was chosen on the validation images; None where none was.
        lines: What was printed about the data and the decisions taken.
    """
    if not is_main_process():
        return
    predicted = Predicted(runner.test_dataloader.dataset, unwrapped(runner.model), recorder.records)
    run = Run(runner, 'test', 'test', metrics, lines, (('checkpoint', checkpoint),), threshold=threshold)
    write_report(run, predicted, recorder.failed, 'test_report', None, 'test_worst.jpg')
    runner.logger.info(f'the report is {Path(runner.work_dir) / "test_report.html"}')
