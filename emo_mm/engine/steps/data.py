"""The data of a run: the user's own, or those that the config names; present, sound, and fitting the config."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

from emo_mm.config.edits import Change, Edit, NewFile, Part
from emo_mm.config.names import find_config
from emo_mm.config.parts import type_name
from emo_mm.config.view import ConfigView, inner_parts
from emo_mm.data.splits import MOUNT, refuse_address
from emo_mm.engine.options import RunOptions
from emo_mm.errors import UserError

_VALIDATION = ('val_dataloader', 'val_evaluator', 'val_cfg')
_STORES = ('backend_args', 'file_client_args')  # settings that say by what files are read
_LOCAL = ('local', 'disk')
_BY_VALIDATION = ('EarlyStoppingHook', 'ValLossHook')  # hooks that have nothing to do without it


def lone_class(view: ConfigView, options: RunOptions) -> Change:
    """Read ``classes=('cat')``, which Python takes for a text, as one class; toolboxes would read c, a and t."""
    edits: list[Edit] = []
    for split in view.read_splits:
        for dataset in split.datasets:
            known = dataset.node.get('metainfo')
            if isinstance(known, dict) and isinstance(known.get('classes'), str):
                edits.append(Edit(f'{dataset.place}.metainfo.classes', (known['classes'],)))
    return Change(tuple(edits))


def local_files(view: ConfigView, options: RunOptions) -> Change:
    """Refuse data that the config reads through a storage backend: all files are looked into before a run.

    Raises:
        UserError: If a data set or a step of a pipeline has such a backend.
    """
    for split in view.read_splits:
        loader = split.loader
        for part in () if loader is None else inner_parts(loader.node, loader.place):
            for key in _STORES:
                backend = (part.node.get(key) or {}).get('backend', 'local')
                if backend not in _LOCAL:
                    place = f'{part.place}.{key}'
                    raise UserError(
                        f'{view.name}: {place}: backend {backend!r}: data are read from local files; {MOUNT}'
                    )
    return Change()


def keep_empty(view: ConfigView, options: RunOptions) -> Change:
    """Train on images without boxes too, if asked for.

    Raises:
        UserError: If the data are of a kind that has no such setting.
    """
    if not getattr(options, 'keep_empty', False):
        return Change()
    filtered = [part for part in view.splits['train'].datasets if isinstance(part.node.get('filter_cfg'), dict)]
    if not filtered:
        raise UserError(f'--keep-empty: the training data of {view.name} have no filter_cfg, which leaves images out')
    parts = [Part(f'{part.place}.filter_cfg', part.node['filter_cfg']) for part in filtered]
    return Change(tuple(edit for part in parts for edit in part.edit(filter_empty_gt=False)))


def no_validation(view: ConfigView, options: RunOptions) -> Change:
    """Train without validation, if asked for; without its metrics no checkpoint is the best.

    Raises:
        UserError: If a validation split is given, or asked for, all the same.
    """
    if not getattr(options, 'no_val', False):
        return Change()
    data = options.data
    for flag, given in (('--val-ann', data.val_ann), ('--val-images', data.val_images), ('--split', data.split)):
        if given is not None:
            raise UserError(f'--no-val and {flag} exclude each other; leave one out')
    best = ('save_best', 'rule', 'greater_keys', 'less_keys')
    hook = view.hooks.get('checkpoint')
    kept = () if hook is None else hook.remove(*best)
    stopping = [one for one in view.custom_hooks if type_name(one) in _BY_VALIDATION]
    others = [one for one in view.custom_hooks if one not in stopping]
    hooks = (Edit('custom_hooks', others),) if stopping else ()
    words = ', and without '.join(['without validation: the last checkpoint stays', *map(type_name, stopping)])
    return Change((*(Edit(key, None) for key in _VALIDATION), *kept, *hooks), (words,))


def data_set(view: ConfigView, options: RunOptions) -> Change:
    """Put the user's data into the config, or check that the config's own are there and fit it."""
    from emo_mm.data.apply import apply_data
    from emo_mm.data.checks import check_data

    checked = options.check is not None
    if options.data.given:
        if not options.dry_run:
            check_work_dir(Path(view.cfg.work_dir))
        return apply_data(view, options.data, tolerant=checked)
    return Change(lines=tuple(check_data(view, tolerant=checked)))


def work_dir(view: ConfigView, options: RunOptions) -> Change:
    """Take the folder for logs, checkpoints and pictures."""
    own = options.work_dir or view.cfg.get('work_dir') or f'work_dirs/{find_config(options.config).stem}'
    refuse_address('--work-dir', own)
    return Change((Edit('work_dir', own),))


def repaired(view: ConfigView, options: RunOptions) -> Change:
    """Read repaired copies of lists of data that the toolbox cannot read as they are.

    Raises:
        UserError: If the work directory cannot be written.
    """
    from emo_mm.data.checks import repair_data

    if not options.dry_run:
        check_work_dir(Path(view.cfg.work_dir))
    return repair_data(view)


def content(view: ConfigView, options: RunOptions) -> Change:
    """Look into every file of the data, and leave faulty ones out if asked to; a dry run does not look.

    Raises:
        UserError: If files are faulty and are not to be left out.
    """
    from emo_mm.data.checks import check_content

    if options.dry_run:
        return Change(lines=('a dry run does not look into the files of the data; `emo-mm data show DIR` does',))
    if options.check is None:
        return Change()
    return check_content(view, options.check, options.bad_data)


def write_files(files: Iterable[NewFile], folder: Path | None) -> None:
    """Write what a changed config reads.

    Args:
        files: The files.
        folder: The work directory; it must be one that can be written. None in a dry run, whose files lie elsewhere.

    Raises:
        UserError: If the work directory cannot be written.
    """
    from emo_mm.data.layouts.base import write_text

    if folder is not None:
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
