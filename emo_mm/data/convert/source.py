"""The data set that is converted: all splits that are there, checked as a run checks them that leaves nothing out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emo_mm.data.folder import WHOLE, layout_in, read_parts
from emo_mm.data.layouts.base import DERIVED, Layout, Names
from emo_mm.data.splits import DataRequest
from emo_mm.tasks import Task


@dataclass(frozen=True)
class Source:
    """A data set.

    Attributes:
        root: Its folder.
        layout: Its layout.
        names: Its classes.
        parts: What was read of each split.
        checked: The same, checked.
        told: What to say of the splits.
    """

    root: Path
    layout: Layout[Any, Any, Any]
    names: Names
    parts: Mapping[str, Any]
    checked: Mapping[str, Any]
    told: tuple[str, ...]


def open_source(request: DataRequest, task: Task) -> Source:
    """Find, read and check all splits of a data set; one without splits is a training split.

    Args:
        request: The folder, and what overrides the search.
        task: What the data are converted for.

    Raises:
        UserError: If nothing is found, or something is at fault.
    """
    root = request.root
    layout = layout_in(request, task)
    parts, told = read_parts(layout, request, tolerant=False, derived=Path(DERIVED))
    if WHOLE in parts:
        parts = {'train': parts[WHOLE]}
        told = ('there are no splits, so all is written as train; --split 0.8/0.2 divides it',)
    names = layout.agree(root, parts, request, tolerant=False)
    checked = {split: layout.check(root, split, part, names, tolerant=False) for split, part in parts.items()}
    return Source(root, layout, names, parts, checked, told)


@dataclass(frozen=True)
class NewNames:
    """New names for images: without folders, of which no two differ by their ending only.

    Attributes:
        taken: The names without endings that were given already.
    """

    taken: set[str]

    def of(self, paths: list[Path], split: str) -> Iterator[str]:
        """Yield the name of each image of a split."""
        for number, path in enumerate(paths, 1):
            name = path.name if path.stem not in self.taken else f'{split}_{number}_{path.name}'
            self.taken.add(Path(name).stem)
            yield name
