"""The options of ``emo-mm data show``."""

from __future__ import annotations

from dataclasses import dataclass, field

from emo_mm.arguments import Argument
from emo_mm.data.splits import DataRequest
from emo_mm.tasks import TaskName

OUT = 'data_report'
EXCEPTIONS = {'data_root': Argument(positional=True, metavar='SRC')}


@dataclass(frozen=True)
class ShowOptions:
    """What the command line of ``data show`` gives.

    Attributes:
        data: The data set.
        task: Task that the data are for, where a folder may be read for several.
        out: Folder for the page, its pictures and its numbers; new, empty, or one that this command has written.
        images: Images on the sheet of each split.
    """

    data: DataRequest = field(default_factory=DataRequest)
    task: TaskName | None = None
    out: str = OUT
    images: int = 24
