"""Before a model is built: are the data sets of a config there, do they fit it, is each image and annotation sound?

What that means for a data set is told by its layout; here are the loops over them, and what is said and done about
what was found.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from emo_mm.config.edits import Change, join
from emo_mm.config.parts import type_name
from emo_mm.config.view import ConfigView, SplitView
from emo_mm.data.derived import derived_folder
from emo_mm.data.faults import Content, summary, table, write_list
from emo_mm.data.files.cache import CheckCache, known_answers
from emo_mm.data.layouts import layout_of_reading, layouts_of
from emo_mm.data.layouts.base import Reading
from emo_mm.data.splits import count
from emo_mm.errors import UserError

POLICIES = ('error', 'skip')
FAULT_LIST = 'data_faults.csv'  # in the work directory


# --- is it there, does it fit
def check_data(view: ConfigView, tolerant: bool = False) -> list[str]:
    """Check that the data sets of a config, those that the run reads, exist and fit it.

    Args:
        view: The config.
        tolerant: Whether faults of single images and annotations are left to ``check_content``.

    Returns:
        Lines to print: counts of what was found.

    Raises:
        UserError: If something is missing or does not fit. Where the data set is not there at all the message shows
            the tree that is expected and tells how to get it.
    """
    return check_readings(view, readings_of(view), tolerant)


def check_readings(view: ConfigView, readings: Sequence[Reading], tolerant: bool) -> list[str]:
    """Check data sets as :func:`check_data` does."""
    lines = []
    for reading in readings:
        layout = layout_of_reading(reading)
        if layout is None:
            known = ', '.join(one.name for one in layouts_of(view.data_task) if one.of_configs)
            lines.append(f'{reading.split}: {type_name(reading.dataset)} is not checked; only {known} are')
        else:
            for path in layout.needs(reading):
                if not path.exists():
                    raise missing_data(view, path)
            lines += layout.fits(view, reading, tolerant)
        _check_heads(view, reading.classes)
    return lines


def readings_of(view: ConfigView, splits: Sequence[SplitView] | None = None) -> list[Reading]:
    """Return the data sets of a config: those that the run reads, or those of some splits."""
    chosen = view.read_splits if splits is None else splits
    task = view.data_task
    return [Reading(split.name, part.node, task, part.place) for split in chosen for part in split.datasets]


def _check_heads(view: ConfigView, classes: Sequence[str] | None) -> None:
    for part in view.counting if classes else ():
        number = part.node['num_classes']
        if number != len(classes or ()):
            raise UserError(
                f'{view.name}: {type_name(part.node) or "a part"} has num_classes={number} but the data set has '
                f'{len(classes or ())} classes; with --data-root DIR they are set alike'
            )


def missing_data(view: ConfigView, missing: Path) -> UserError:
    """Return the error for a data set that is not there: what was looked for, the tree expected, how to get it."""
    paths: dict[str, list[str]] = {}
    sources = []
    for reading in readings_of(view, list(view.splits.values())):
        layout, dataset = layout_of_reading(reading), reading.dataset
        if layout is None:
            continue
        paths.setdefault(dataset.get('data_root') or '.', []).extend(layout.expected(dataset))
        if not (dataset.get('metainfo') or {}).get('classes'):
            sources.append(layout.sources.get(type_name(dataset), ''))
    text = [f'{missing}: does not exist, so the data set of this config is not (all) there. Expected:']
    for root, below in paths.items():
        text += [f'  {root.rstrip("/")}/', *_tree(below)]
    text += [source for source in dict.fromkeys(sources) if source]
    text.append('A data set that lies elsewhere, or one of your own, is given with --data-root DIR.')
    text.append(
        'To try it without: `emo-mm data shapes data/shapes` makes a data set for the demo configs (`make demo`).'
    )
    return UserError('\n'.join(text))


def _tree(paths: Sequence[str], indent: str = '    ') -> list[str]:
    """Draw paths as an indented tree, each folder once and with a slash."""
    lines = []
    for head in dict.fromkeys(path.split('/', 1)[0] for path in sorted(paths)):
        below = [path.split('/', 1)[1] for path in paths if path.startswith(f'{head}/')]
        lines.append(f'{indent}{head}{"/" if below else ""}')
        lines += _tree([path for path in dict.fromkeys(below) if path], f'{indent}  ')
    return lines


# --- can the toolbox read it as it is
def repair_data(view: ConfigView) -> Change:
    """Let a run read repaired copies of lists that the toolbox cannot read as they are; most need none.

    Args:
        view: The config. Its work directory gets the copies.
    """
    folder = derived_folder(view.cfg.work_dir)
    readings = [(reading, layout_of_reading(reading)) for reading in readings_of(view)]
    return join(
        layout.repaired(view, reading, folder / f'{index}_{reading.split}')
        for index, (reading, layout) in enumerate(readings)
        if layout is not None
    )


# --- is each image and annotation sound
def check_content(view: ConfigView, check: str = 'quick', policy: str = 'error') -> Change:
    """Check every image and annotation that a run reads.

    Args:
        view: The config. Its work directory gets the list of faults, and lists of what is left.
        check: ``quick`` or ``full``; see ``emo_mm.data.files.check``.
        policy: What to do about faults: ``error`` or ``skip``.

    Returns:
        Lines to print, and with the policy ``skip`` the edits that leave faulty parts out.

    Raises:
        UserError: If there are faults and the policy is ``error``, or nothing is left without them.
    """
    folder = Path(view.cfg.work_dir)
    start = time.monotonic()
    with known_answers() as cache:
        found = [(reading, _content(reading, check, cache)) for reading in readings_of(view)]
    faults = [fault for _, content in found for fault in content.faults]
    number = sum(content.items.get('images', 0) for _, content in found)
    checked = f'{check} check of {count(number, "image")} in {time.monotonic() - start:.1f} s'
    if not faults:
        (folder / FAULT_LIST).unlink(missing_ok=True)  # of a run before they were fixed
        return Change(lines=(f'{checked}: no fault',) if number else ())
    write_list(faults, folder / FAULT_LIST)
    shown = [*(f'  {row}' for row in table(faults)), f'  all of them: {folder / FAULT_LIST}']
    if policy == 'error' and any(fault.serious for fault in faults):
        ways = 'Fix them, leave them out with --bad-data skip, or go without this check by --skip-check.'
        raise UserError('\n'.join([f'the data have {summary(faults)} ({checked})', *shown, ways]))
    left = [
        _leave_out(view, reading, content, derived_folder(folder) / f'{index}_{reading.split}')
        for index, (reading, content) in enumerate(found)
        if content.serious
    ]
    return join([Change(lines=(f'{checked}: {summary(faults)}', *shown)), *left])


def _content(reading: Reading, check: str, cache: CheckCache) -> Content:
    layout = layout_of_reading(reading)
    return Content([], {}) if layout is None else layout.content(reading, check, cache)


def _leave_out(view: ConfigView, reading: Reading, content: Content, target: Path) -> Change:
    """Return the change of a data set of a config to one without what is at fault."""
    drops = content.drops()
    if len(drops['images']) == content.items['images']:
        raise UserError(f'{reading.split}: no image is left without the faulty ones; see the list of faults')
    layout = layout_of_reading(reading)
    assert layout is not None  # which found the faults
    left = layout.without(view, reading, content, drops, target)
    return Change(left.edits, (f'{reading.split}: {left.words} left out; what is left is listed in {left.path}',))
