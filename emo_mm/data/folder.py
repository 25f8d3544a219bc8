"""A data set in a folder, opened without a config: as a run does that is given nothing but the folder.

The steps are those of ``Layout.resolve`` and of the check of the content before a run. All splits that are there are
opened, and a data set without splits is, as one part. Faults of single images and annotations are no obstacle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emo_mm.config.edits import apply_edits
from emo_mm.data.faults import Content
from emo_mm.data.files.cache import CheckCache
from emo_mm.data.layouts import layout_of_folder
from emo_mm.data.layouts.base import Found, Layout, Names, NeedsConfigError, Reading
from emo_mm.data.splits import SPLITS, DataRequest
from emo_mm.errors import UserError
from emo_mm.tasks import Task

WHOLE = 'all'  # what the one part of a data set without splits is called


@dataclass(frozen=True)
class Opened:
    """A data set in a folder.

    Attributes:
        layout: Its layout.
        found: What was found; a data set without splits has the only part ``WHOLE``.
        doubt: What only a config can tell of its classes; then their names stand for others.
        others: What looks like further splits, which no run finds by itself.
    """

    layout: Layout[Any, Any, Any]
    found: Found[Any]
    doubt: str
    others: tuple[str, ...]


def open_folder(request: DataRequest, task: Task | None, derived: Path) -> Opened:
    """Find, read and check the splits of a data set.

    Args:
        request: The folder, and what overrides the search.
        task: What the data are for; None if the folder tells.
        derived: Folder of what a run reads in place of the user's files; nothing is written here.

    Raises:
        UserError: If nothing is found, a training could not read it, or the splits do not go together.
    """
    layout = layout_in(request, task)
    parts, told = read_parts(layout, request, tolerant=True, derived=derived)
    whole = WHOLE in parts
    named = {'train': parts[WHOLE]} if whole else parts
    names, doubt = _names(layout, request, named)
    checked = {split: layout.check(request.root, split, part, names, tolerant=True) for split, part in named.items()}
    splits = {WHOLE: checked['train']} if whole else checked
    others = () if whole else tuple(layout.title(request.root, split, place) for split, place in layout.others(request))
    return Opened(layout, Found(request.root, names, splits, derived, told), doubt, others)


def content_of(layout: Layout[Any, Any, Any], found: Found[Any], split: str, cache: CheckCache) -> Content:
    """Check the content of a split, once ``layout.write`` has written what a run reads.

    Args:
        layout: The layout of the data set.
        found: The data set.
        split: The split.
        cache: Answers of earlier runs.

    Raises:
        UserError: If nothing can be learned from it.
    """
    checked = found.splits[split]
    dataset: dict[str, Any] = {'metainfo': {'classes': found.classes}}
    reading = Reading(split, dataset, task=None)
    apply_edits({'dataset': dataset}, layout.point(reading, found, checked))
    return layout.content_of(reading, checked, 'quick', cache)


def layout_in(request: DataRequest, task: Task | None) -> Layout[Any, Any, Any]:
    """Return the layout of a folder, be it divided into splits or not.

    Args:
        request: The folder, and what overrides the search.
        task: What the data are for; None if the folder tells.

    Raises:
        UserError: If no layout or more than one recognises it, or the request says of masks what it has none of.
    """
    layout = layout_of_folder(request, task, whole=True)
    if request.about_masks and not layout.has_masks:
        raise UserError(f'--{request.about_masks[0]}: is for masks, and {layout.name} have none')
    return layout


def read_parts(
    layout: Layout[Any, Any, Any], request: DataRequest, tolerant: bool, derived: Path
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Read all splits that are there, or the only part ``WHOLE`` of a data set without splits.

    Args:
        layout: The layout of the data set.
        request: The folder, and what overrides the search.
        tolerant: Whether faults of single images and annotations are left to the check of the content.
        derived: Folder for the lists of splits that are made; nothing is written here.

    Returns:
        What was read of each, and what to say about how they were divided.

    Raises:
        UserError: If there is nothing, or it cannot be read.
    """
    if request.divides:
        return layout.divided(request, training=True, tolerant=tolerant, derived=derived)
    places = {split: place for split in SPLITS if (place := layout.find(request, split)) is not None}
    if not places:
        whole = layout.undivided(request)
        if whole is None:
            raise layout.absent(request.root, 'train')
        places = {WHOLE: whole}
    return {split: layout.read(place, tolerant) for split, place in places.items()}, ()


def _names(layout: Layout[Any, Any, Any], request: DataRequest, parts: Mapping[str, Any]) -> tuple[Names, str]:
    """Return the classes of all parts, and what only a config can tell of them."""
    try:
        return layout.agree(request.root, parts, request, tolerant=True), ''
    except NeedsConfigError as error:
        return error.names, str(error)
