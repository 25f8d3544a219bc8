"""The functions of a task's report."""

from __future__ import annotations

from pkgutil import resolve_name

from emo_mm.engine.reports.base import TaskReport
from emo_mm.tasks import Task


def report_of(task: Task) -> TaskReport:
    """Return the functions of a task."""
    found: TaskReport = resolve_name(task.report)
    return found
