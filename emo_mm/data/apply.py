"""Puts the user's own data into a config, so that no file need be edited."""

from __future__ import annotations

from collections.abc import Collection

from emo_mm.config.edits import Change, Edit
from emo_mm.config.view import ConfigView
from emo_mm.data.checks import check_readings, readings_of
from emo_mm.data.derived import derived_folder
from emo_mm.data.layouts import layout_of_folder
from emo_mm.data.layouts.base import Reading
from emo_mm.data.splits import SPLITS, DataRequest
from emo_mm.errors import UserError


def apply_data(view: ConfigView, request: DataRequest, tolerant: bool = False) -> Change:
    """Put own data into a config: roots, files, classes, heads and evaluators follow from what the data hold.

    A tree that has the layout and the classes which the config expects only moves the root. A training needs train and
    val (where there is no test split, val is tested on), a test the test split.

    Args:
        view: The config.
        request: What the user gave.
        tolerant: Whether faults of single images and annotations are left to ``check_content``.

    Returns:
        The edits, the lists that they need, and lines to print: counts of matched images and labels, classes, and
        decisions taken.

    Raises:
        UserError: If the data are missing or faulty, or the config's loaders join several data sets.
    """
    layout = layout_of_folder(request, view.data_task)
    if request.about_masks and not layout.has_masks:
        raise UserError(f'--{request.about_masks[0]}: is for masks, which {view.task.noun} data have none of here')
    # the name that configs give their root; the parts below no longer depend on it
    root = (Edit('data_root', request.root.as_posix()),) if 'data_root' in view.cfg else ()
    readings = _readings(view)
    kept = layout.kept(view, request)
    if kept is not None:
        moved = [edit for reading in readings for edit in reading.part.edit(data_root=request.root.as_posix())]
        there = [_moved(reading, request) for reading in readings_of(view)]
        return Change((*root, *moved), (*check_readings(view, there, tolerant), *kept))
    validating = bool(view.splits['val'].datasets)
    derived = derived_folder(view.cfg.get('work_dir') or 'work_dirs')
    found = layout.resolve(request, view.training, tolerant, validating, derived)
    told = found.lines()
    found, files = layout.settle(found, derived)
    layout.write(found, tolerant)
    edits = [edit for reading in readings for edit in layout.point(reading, found, found.split(reading.split))]
    rest = layout.finish(view, found)
    lines = (*told, *rest.lines)
    if 'test' not in found.splits:
        lines = (*lines, *_no_test(found.splits))
    return Change((*root, *edits, *_class_counts(view, len(found.classes)), *rest.edits), lines, files)


def _no_test(splits: Collection[str]) -> tuple[str, ...]:
    if 'val' in splits:
        return ('test: there is no test split, so the val split is tested on',)
    return ('test: there is neither test nor val split; until one is given, the config tests on the training images',)


def _readings(view: ConfigView) -> list[Reading]:
    """Return the data sets of a config that take the place of the user's: all of a training, or that of the test."""
    splits = SPLITS if view.training else ('test',)
    parts = [(split, view.only_dataset(split)) for split in splits if view.splits[split].datasets]
    return [Reading(split, part.node, view.data_task, part.place) for split, part in parts]


def _moved(reading: Reading, request: DataRequest) -> Reading:
    """Return a reading with another root, as the edits will have it."""
    dataset = {**reading.dataset, 'data_root': request.root.as_posix()}
    return Reading(reading.split, dataset, reading.task, reading.place)


def _class_counts(view: ConfigView, number: int) -> list[Edit]:
    if not view.counting:
        raise UserError(
            f"{view.name}: no part of the {view.task.model} has num_classes, so it cannot be set to the data set's "
            f'{number} classes; write num_classes in its head'
        )
    return [edit for part in view.counting for edit in part.edit(num_classes=number)]
