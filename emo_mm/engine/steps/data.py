"""The data of a run: the user's own, or those that the config names; present, sound, and fitting the config."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

from emo_mm.config.edits import Change, Edit, NewFile
from emo_mm.config.names import find_config
from emo_mm.config.view import ConfigView
from emo_mm.engine.options import RunOptions
from emo_mm.errors import UserError


def lone_class(view: ConfigView, options: RunOptions) -> Change:
    """Read ``classes=('cat')``, which Python takes for a text, as one class; toolboxes would read c, a and t."""
    edits: list[Edit] = []
    for split in view.read_splits:
        for dataset in split.datasets:
            known = dataset.node.get('metainfo')
            if isinstance(known, dict) and isinstance(known.get('classes'), str):
                edits.append(Edit(f'{dataset.place}.metainfo.classes', (known['classes'],)))
    return Change(tuple(edits))


def data_set(view: ConfigView, options: RunOptions) -> Change:
    """Put the user's data into the config, or check that the config's own are there and fit it."""
    from emo_mm.data.apply import apply_data
    from emo_mm.data.checks import check_data

    checked = options.check is not None
    if options.data.given:
        return apply_data(view, options.data, tolerant=checked)
    return Change(lines=tuple(check_data(view, tolerant=checked)))


def work_dir(view: ConfigView, options: RunOptions) -> Change:
    """Take the folder for logs, checkpoints and pictures."""
    own = options.work_dir or view.cfg.get('work_dir') or f'work_dirs/{find_config(options.config).stem}'
    return Change((Edit('work_dir', own),))


def content(view: ConfigView, options: RunOptions) -> Change:
    """Look into every file of the data, and leave faulty ones out if asked to; a dry run does not look.

    Raises:
        UserError: If the work directory cannot be written, or files are faulty and are not to be left out.
    """
    from emo_mm.data.checks import check_content

    if options.dry_run:
        return Change(lines=('a dry run does not look into the files of the data',))
    check_work_dir(Path(view.cfg.work_dir))
    if options.check is None:
        return Change()
    return check_content(view, options.check, options.bad_data)


def write_files(files: Iterable[NewFile], folder: Path) -> None:
    """Write what a changed config reads.

    Args:
        files: The files.
        folder: The work directory, below which they lie.

    Raises:
        UserError: If the work directory cannot be written.
    """
    from emo_mm.data.layouts.base import write_text

    check_work_dir(folder)
    for file in files:
        write_text(file.path, file.text)


def check_work_dir(folder: Path) -> None:
    """Make a work directory, and check that it can be written.

    Raises:
        UserError: If it cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # a file without a name: the processes of a distributed run probe at the same moment
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f'work directory {folder} cannot be written: {error.strerror}; give another --work-dir'
        ) from error
