"""The options of ``emo-mm data convert``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from emo_mm.arguments import Argument
from emo_mm.data.splits import DataRequest

EXCEPTIONS = {'data_root': Argument(positional=True, metavar='SOURCE'), 'to': Argument(flags=('--to',))}


@dataclass(frozen=True)
class FormatOptions:
    """What the command line of ``data convert`` gives.

    Attributes:
        data: The data set, in any layout that a training reads.
        target: Folder to make; it must be new or empty.
        to: Format to write: boxes as ``coco``, ``yolo`` or ``voc``, or index masks, also from outlines.
    """

    data: DataRequest = field(default_factory=DataRequest)
    target: str = field(kw_only=True)
    to: Literal['coco', 'yolo', 'voc', 'masks'] = field(kw_only=True)
