"""Configs by their names."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING

from emo_mm.errors import UserError
from emo_mm.stack import config_root
from emo_mm.tasks import TASKS, task_of_config

if TYPE_CHECKING:
    from mmengine.config import Config


PREFIX = 'emo_mm::'  # of our configs' names in the `_base_` of another; emo_mm.config.inherit tells MMEngine


def _config_files() -> dict[str, Path]:
    root = config_root()
    folders = dict.fromkeys(task.folder for task in TASKS.values())
    return {path.stem: path for folder in folders for path in sorted((root / folder).glob('*.py'))}


def list_models(task: str | None = None) -> list[str]:
    """Return the names of the configs, which ``get_config``, ``build_model`` and the tools accept.

    Args:
        task: ``det``, ``ins``, ``seg`` or ``cls`` for those of one task.

    Raises:
        UserError: If there is no such task.
    """
    if task is not None and task not in TASKS:
        raise UserError(f'task is {task!r}; it must be one of {", ".join(TASKS)}')
    return [name for name, path in _config_files().items() if task in (None, _task_name(path))]


def task_name(config: str) -> str:
    """Return the short name of the task of one of our configs.

    Raises:
        UserError: If there is no such config.
    """
    return _task_name(find_config(config))


def _task_name(path: Path) -> str:
    task = task_of_config(path.parent.name, path.stem)
    assert task is not None  # it lies in the folder of one
    return task.name


def find_config(name: str | Path) -> Path:
    """Return the file of a config given by name or path, or by what a config writes to inherit it.

    Args:
        name: ``ssdlite_emo_1m_coco``, the path of a file, or ``emo_mm::det/ssdlite_emo_1m_coco.py``: ``emo_mm::`` and
            a path below our configs, those of ``_base_`` included.

    Raises:
        UserError: If there is none; the message suggests the names that come near.
    """
    if str(name).startswith(PREFIX):
        return _own_config(str(name))
    path = Path(name)
    if path.suffix == '.py' and path.is_file():
        return path
    if '://' in str(name):
        raise UserError(
            f'{name} is an address: a config is code that is run, and none is fetched; download it, read it, and give '
            'its path'
        )
    files = _config_files()
    known = files.get(path.stem if path.suffix == '.py' else str(name))
    if known is not None and len(path.parts) == 1:
        return known
    near = difflib.get_close_matches(path.stem if path.suffix == '.py' else path.name, files, n=3, cutoff=0.5)
    hint = f'did you mean {" or ".join(near)}?' if near else '`emo-mm list` shows the names'
    what = 'file' if path.suffix == '.py' or len(path.parts) > 1 else 'config'
    raise UserError(f'no {what} {str(name)!r}: {hint}')


def _own_config(name: str) -> Path:
    root = config_root()
    files = {path.relative_to(root).as_posix(): path for path in sorted(root.rglob('*.py'))}
    wanted = name.removeprefix(PREFIX)
    known = files.get(wanted if wanted.endswith('.py') else f'{wanted}.py') or _config_files().get(wanted)
    if known is not None:
        return known
    near = difflib.get_close_matches(wanted, files, n=3, cutoff=0.5)
    hint = f'did you mean {" or ".join(PREFIX + one for one in near)}?' if near else '`emo-mm list` shows the names'
    raise UserError(f'no config {name!r}: {hint}')


def get_config(name: str | Path) -> Config:
    """Return the config called ``name``, or that of a file.

    Raises:
        UserError: If there is no such config, or it cannot be read.
    """
    from mmengine.config import Config

    path = find_config(name)
    try:
        return Config.fromfile(str(path))
    except UserError as error:  # a base of ours that there is not
        raise UserError(f'config {path} cannot be read: {error}') from error
    except ImportError as error:  # of its custom_imports; MMEngine's text is all of sys.path
        hint = '; PYTHONPATH must name the folder of a module of your own' if error.__cause__ else ''
        raise UserError(f'config {path} cannot be read: {error.__cause__ or error}{hint}') from error
    except Exception as error:  # a config is code: whatever it raises is a fault in it
        raise UserError(f'config {path} cannot be read: {type(error).__name__}: {error}') from error
