"""The layouts of data sets: one file (or a folder of files) and one row of ``LAYOUTS`` each.

To add one, write its steps (``emo_mm.data.layouts.base.Layout``) and its row; training, test and doctor then know it.

Several layouts may serve a task. The one that recognises a folder is taken for it; a data set that a config names is
read by the first one that knows its type.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pkgutil import resolve_name

from emo_mm.data.layouts.base import Layout, Reading
from emo_mm.data.splits import DataRequest
from emo_mm.errors import UserError
from emo_mm.tasks import TASKS, Task, TaskName


@dataclass(frozen=True)
class Row:
    """A layout and the tasks that it serves.

    Attributes:
        tasks: Short names of the tasks.
        where: ``module:object`` of its ``Layout``, which is imported when a data set is looked at.
    """

    tasks: tuple[TaskName, ...]
    where: str

    @property
    def key(self) -> str:
        """Its name on the command line: that of the object, in small letters."""
        return self.where.rpartition(':')[2].lower()

    @property
    def layout(self) -> Layout:
        """The layout itself."""
        found: Layout = resolve_name(self.where)
        return found


# Where nobody says which task a folder is for, the first row that recognises it is taken: most telling signs first.
LAYOUTS: tuple[Row, ...] = (
    Row(('det',), 'emo_mm.data.layouts.coco:COCO'),
    Row(('det',), 'emo_mm.data.layouts.boxes.yolo:YOLO'),
    Row(('det',), 'emo_mm.data.layouts.boxes.voc:VOC'),
    Row(('det',), 'emo_mm.data.layouts.boxes.cvat:CVAT'),
    Row(('det',), 'emo_mm.data.layouts.boxes.labelme:LABELME'),
    Row(('det',), 'emo_mm.data.layouts.boxes.table:CSV'),
    Row(('ins',), 'emo_mm.data.layouts.instances:COCO_INSTANCES'),
    Row(('ins',), 'emo_mm.data.layouts.instances:YOLO_INSTANCES'),
    Row(('ins',), 'emo_mm.data.layouts.instances:CVAT_INSTANCES'),
    Row(('ins',), 'emo_mm.data.layouts.instances:LABELME_INSTANCES'),
    Row(('seg',), 'emo_mm.data.layouts.masks:MASKS'),
    Row(('seg',), 'emo_mm.data.layouts.outlines:COCO_OUTLINES'),
    Row(('seg',), 'emo_mm.data.layouts.outlines:YOLO_OUTLINES'),
    Row(('seg',), 'emo_mm.data.layouts.outlines:CVAT_OUTLINES'),
    Row(('seg',), 'emo_mm.data.layouts.outlines:LABELME_OUTLINES'),
    Row(('cls',), 'emo_mm.data.layouts.folders:FOLDERS'),
)


def layouts_of(task: Task) -> list[Layout]:
    """Return the layouts that serve a task."""
    return [row.layout for row in LAYOUTS if task.name in row.tasks]


def layout_of_folder(request: DataRequest, task: Task | None = None, whole: bool = False) -> Layout:
    """Return the layout of a folder.

    Args:
        request: The folder, and what else the user gave.
        task: What the data are for; None if any task will do.
        whole: Whether a data set without splits will do.

    Raises:
        UserError: If no layout or more than one recognises the folder. A task's only layout is taken in any case: it
            tells best what is missing.
    """
    if request.layout is not None:
        return _layout_named(request.layout, task)
    known = [row.layout for row in LAYOUTS] if task is None else layouts_of(task)
    if task is not None and len(known) == 1:
        return known[0]
    recognising = [layout for layout in known if layout.recognises(request)]
    if not recognising and task is not None and not request.only_root:
        return known[0]  # it tells best what is wrong with the files that were named
    if not recognising and (whole or task is not None):
        recognising = [layout for layout in known if _whole(layout, request)]  # it tells how to divide them
    if not recognising:
        kinds = described(_once(known))
        raise UserError(f'{request.root}: holds no known layout; known are {kinds}{_of_other_tasks(request, task)}')
    if task is None:
        served = next(row.tasks for row in LAYOUTS if row.layout is recognising[0])
        rivals = [row.layout for row in LAYOUTS if set(row.tasks) & set(served)]
        recognising = [layout for layout in recognising if layout in rivals]
    if len(recognising) > 1:
        raise UserError(
            f'{request.root}: may be any of {described(recognising)}; pick one with --layout '
            f'{" or ".join(row.key for row in LAYOUTS if row.layout in recognising)}'
        )
    return recognising[0]


def _once(layouts: Iterable[Layout]) -> list[Layout]:
    """Return layouts without those that look like an earlier one: the same files, read for another task."""
    first: dict[str, Layout] = {}
    for layout in layouts:
        first.setdefault(layout.looks_like, layout)
    return list(first.values())


def _whole(layout: Layout, request: DataRequest) -> bool:
    """Tell whether a folder holds a data set of a layout that has no splits yet."""
    try:
        return layout.divisible and layout.undivided(request) is not None
    except UserError:  # several may be meant
        return True


def _of_other_tasks(request: DataRequest, task: Task | None) -> str:
    """Return what a folder holds that is for another task, in words; nothing where there is no such thing."""
    rows = [row for row in LAYOUTS if task is not None and task.name not in row.tasks]
    found = next((row for row in rows if row.layout.recognises(request)), None)
    return f'. It holds {found.layout.name}, which are for {TASKS[found.tasks[0]].noun}' if found else ''


def _layout_named(name: str, task: Task | None) -> Layout:
    rows = {row.key: row for row in LAYOUTS if task is None or task.name in row.tasks}
    if task is not None and name not in rows:  # the task tells whether yolo means boxes or outlines
        name = next((key for key in rows if key.startswith(f'{name}_')), name)
    if name not in rows:
        whose = '' if task is None else ' for this task'
        raise UserError(f'--layout {name}: there is no such layout{whose}; there are {", ".join(rows)}')
    return rows[name].layout


def layout_of_reading(reading: Reading) -> Layout | None:
    """Return the layout that a data set of a config has; None if it is one that nothing here checks."""
    known = [] if reading.task is None else layouts_of(reading.task)
    return next((layout for layout in known if layout.reads(reading)), None)


def described(layouts: Iterable[Layout]) -> str:
    """Return what some layouts are called and look like, for a message."""
    return ', '.join(f'{layout.name} ({layout.looks_like})' for layout in layouts)
