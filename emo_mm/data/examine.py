"""What the doctor asks of a folder: what lies there, and would a training or a test take it?

The steps are those of ``Layout.resolve`` and of the check of the content before a run. There the first fault is the
last word; here each split is looked at to the end.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from emo_mm.data.faults import by_kind, summary
from emo_mm.data.files.cache import known_answers
from emo_mm.data.folder import content_of
from emo_mm.data.layouts import layout_of_folder
from emo_mm.data.layouts.base import Checked, Found, Layout, LayoutError, Names, NeedsConfigError
from emo_mm.data.splits import DataRequest, needed_splits, shortlist
from emo_mm.errors import UserError


@dataclass(frozen=True)
class Finding:
    """What was found out about a part of a data set.

    Attributes:
        name: The part.
        ok: Whether a run would take it.
        detail: What it holds, or what is wrong.
        fix: The shell command that fixes it, or shows more of it; empty if nothing is wrong.
    """

    name: str
    ok: bool
    detail: str
    fix: str = ''


@dataclass(frozen=True)
class _Part:
    """A split that was read.

    Attributes:
        split: The split.
        title: The name under which it is shown.
        look: The command that shows more of it.
        part: What was read.
    """

    split: str
    title: str
    look: str
    part: Any


def examine(root: Path, layout_name: str | None = None) -> list[Finding]:
    """Look at a data set as a training does, or as a test does where there is nothing to train on.

    Args:
        root: Its folder, which exists.
        layout_name: Key of its layout; None for the one that is recognised.

    Returns:
        A finding per split, and per file that looks like a further split.
    """
    request, look = DataRequest(data_root=str(root), layout=layout_name), f'find {shlex.quote(str(root))} -maxdepth 2'
    try:
        layout = layout_of_folder(request)
        training = layout.find(request, 'train') is not None
        splits = needed_splits(request, training, layout.find)
    except UserError as error:
        return [_fault(str(root), error, look)]
    read = [_find(layout, request, split, look) for split in splits]
    parts = {one.split: one.part for one in read if isinstance(one, _Part)}
    others = [_other(layout, root, split, place) for split, place in layout.others(request)]
    try:
        names, doubt = layout.agree(root, parts, request, tolerant=False) if parts else Names(()), ''
    except NeedsConfigError as error:
        names, doubt = error.names, error.fault
    except UserError as error:
        faults = [one for one in read if isinstance(one, Finding)]
        return [*faults, _fault(str(root), error, look), *others]
    return [one if isinstance(one, Finding) else _check(layout, root, one, names, doubt) for one in read] + others


def _find(layout: Layout, request: DataRequest, split: str, look: str) -> _Part | Finding:
    try:
        place = layout.place(request, split)
    except UserError as error:
        divided = layout.divisible and split == 'val' and layout.find(request, 'train') is not None
        return _fault(split, error, f'{_train(request.root)} --split 0.8/0.2' if divided else look)
    return _read(layout, request.root, split, place)


def _read(layout: Layout, root: Path, split: str, place: Any) -> _Part | Finding:
    title, look = layout.title(root, split, place), layout.look(place)
    try:
        return _Part(split, title, look, layout.read(place, tolerant=False))
    except NeedsConfigError as error:
        return Finding(title, True, str(error))
    except UserError as error:
        return _fault(title, error, look)


def _check(layout: Layout, root: Path, one: _Part, names: Names, doubt: str) -> Finding:
    """Check a split as a run does that is given nothing but the folder, its content included.

    Args:
        layout: The layout of the data set.
        root: Its folder.
        one: The split.
        names: Its classes.
        doubt: What only a config can tell of them.
    """
    try:
        checked: Checked = layout.check(root, one.split, one.part, names, tolerant=False)
        with TemporaryDirectory() as folder, known_answers() as cache:
            found = Found(root, names, {one.split: checked}, Path(folder))
            layout.write(found, tolerant=True)
            content = content_of(layout, found, one.split, cache)
    except UserError as error:
        return _fault(one.title, error, one.look)
    if content.serious:
        detail = f'{summary(content.faults)}: {shortlist(by_kind(content.serious))}'
        return Finding(one.title, False, detail, f'{_train(root)} --bad-data skip')
    notes = [*checked.notes, *by_kind(content.faults), doubt]
    return Finding(one.title, True, '; '.join([checked.detail(), *filter(None, notes)]))


def _other(layout: Layout, root: Path, split: str, place: Any) -> Finding:
    """Check what no run finds by itself, as a test does that is given it."""
    one = _read(layout, root, split, place)
    if isinstance(one, Finding):
        return one
    try:
        names = layout.agree(root, {split: one.part}, DataRequest(data_root=str(root)), tolerant=False)
        checked: Checked = layout.check(root, 'test', one.part, names, tolerant=False)
    except UserError as error:
        return _fault(one.title, error, one.look)
    return Finding(one.title, True, '; '.join([checked.detail(), *checked.notes]))


def _train(root: Path) -> str:
    return f'emo-mm train CONFIG --data-root {shlex.quote(str(root))}'


def _fault(name: str, error: UserError, look: str) -> Finding:
    if isinstance(error, LayoutError):
        return Finding(name, False, error.fault, error.fix or look)
    return Finding(name, False, str(error), look)
