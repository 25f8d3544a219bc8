"""The functions of a task's report, by its toolbox."""

from __future__ import annotations

from pkgutil import resolve_name

from emo_mm.engine.reports.base import TaskReport
from emo_mm.tasks import TASK_OF_SCOPE


def report_of(scope: str) -> TaskReport:
    """Return the functions of the task of a toolbox."""
    found: TaskReport = resolve_name(TASK_OF_SCOPE[scope].report)
    return found
