"""Configs by name, and the models that they describe."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emo_mm.errors import UserError
from emo_mm.tasks import TASKS

if TYPE_CHECKING:
    from mmengine.config import Config
    from torch import nn


def config_root() -> Path:
    """Return the folder of the configs: the one that a wheel carries, or that of the clone."""
    package = Path(__file__).resolve().parent
    for root in (package / '.mim' / 'configs', package.parent / 'configs'):
        if root.is_dir():
            return root
    raise UserError(f'no configs beside {package}: install emo_mm again, with `pip install .` or `pip install -e .`')


def _config_files() -> dict[str, Path]:
    root = config_root()
    return {path.stem: path for task in TASKS for path in sorted((root / task).glob('*.py'))}


def list_models(task: str | None = None) -> list[str]:
    """Return the names of the configs, which ``get_config``, ``build_model`` and the tools accept.

    Args:
        task: ``det``, ``seg`` or ``cls`` for those of one task.

    Raises:
        UserError: If there is no such task.
    """
    if task is not None and task not in TASKS:
        raise UserError(f'task is {task!r}; it must be one of {", ".join(TASKS)}')
    return [name for name, path in _config_files().items() if task in (None, path.parent.name)]


def find_config(name: str | Path) -> Path:
    """Return the file of a config given by name or path.

    Raises:
        UserError: If there is none; the message suggests the names that come near.
    """
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


def get_config(name: str | Path) -> Config:
    """Return the config called ``name``, or that of a file.

    Raises:
        UserError: If there is no such config, or it cannot be read.
    """
    from mmengine.config import Config

    path = find_config(name)
    try:
        return Config.fromfile(str(path))
    except Exception as error:  # a config is code: whatever it raises is a fault in it
        raise UserError(f'config {path} cannot be read: {type(error).__name__}: {error}') from error


def build_model(name: str | Path, weights: str | Path | None = None) -> nn.Module:
    """Build the detector, segmenter or classifier of a config, in eval mode.

    Args:
        name: Name or path of the config.
        weights: A checkpoint of the whole model, or weights of its backbone: a path, an address or the name of
            published weights. None leaves the random values the layers are made with; ``init_weights()`` of the
            model draws those to train from.

    Raises:
        UserError: If the config or the weights cannot be had, or do not fit each other.
    """
    model = build_from_config(get_config(name))
    if weights is not None:
        from emo_mm.weights import load_weights

        load_weights(model, weights)
    return model


def build_from_config(cfg: Config) -> nn.Module:
    """Build the model of a config that was read, with random weights, in eval mode.

    Raises:
        UserError: If the toolbox of the config cannot be had, or the config describes no model that can be built.
    """
    from mmengine.registry import MODELS, DefaultScope

    from emo_mm.compat import register_toolbox

    where = cfg.filename or 'config'
    model = cfg.get('model')
    if not isinstance(model, dict) or not isinstance(model.get('backbone'), dict):
        raise UserError(f'{where}: it has no model with a backbone')
    register_toolbox(cfg.get('default_scope'))
    model['backbone'].pop('init_cfg', None)  # the weights to start a training from
    try:
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            return MODELS.build(model).eval()
    except UserError:
        raise
    except Exception as error:  # a network may raise anything at wrong settings
        raise UserError(f'{where}: the model cannot be built: {explained(error)}') from error


def explained(error: BaseException) -> str:
    """Return why MMEngine could not build a part of a config, with a suggestion for a wrong name."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    argument = re.search(r"unexpected keyword argument '(\w+)'", text)
    if argument is not None:
        kind = _class_that_failed(error)
        known = [] if kind is None else list(inspect.signature(kind).parameters)
        name = 'it' if kind is None else kind.__name__
        return f'{name} has no argument {argument[1]!r}{_suggestion(argument[1], known)}'
    unknown = re.match(r'`?([\w.]+)`? is not in the [\w.:-]* ?registry', text)
    if unknown is not None:
        return f'there is no type {unknown[1]!r}{_suggestion(unknown[1].rpartition(".")[2], _registered_names())}'
    return f'{type(error).__name__}: {text}' if isinstance(error, (KeyError, AttributeError)) else text


# Keys that MMEngine takes out of a part before it builds the rest.
_NO_ARGUMENTS = {'type', 'priority', 'constructor', 'paramwise_cfg', 'convert_to_iter_based', '_scope_', '_delete_'}


def check_arguments(cfg: Config, keys: Iterable[str]) -> None:
    """Check that parts of a config have the arguments that dotted keys name, where the class of a part tells.

    MMEngine tells a wrong argument when it builds the part, some parts only after the data were loaded.

    Raises:
        UserError: If a class has no such argument; the message suggests one that comes near.
    """
    for key in keys:
        *parents, name = key.split('.')
        part: Any = cfg
        for parent in parents:
            is_index = isinstance(part, (list, tuple)) and parent.isdecimal() and int(parent) < len(part)
            part = part[int(parent)] if is_index else part.get(parent) if isinstance(part, dict | type(cfg)) else None
        kind = _class_of(part) if isinstance(part, dict) else None
        if kind is None or name in _NO_ARGUMENTS:
            continue
        arguments = inspect.signature(kind).parameters
        if name not in arguments and not any(one.kind is one.VAR_KEYWORD for one in arguments.values()):
            raise UserError(f'{key}: {kind.__name__} has no argument {name!r}{_suggestion(name, arguments)}')


def _class_of(part: dict[str, Any]) -> type | None:
    """Return the class of a part of a config; None if it has none, or several classes have its name."""
    name = part.get('type')
    if not isinstance(name, str):
        return None
    scope, _, plain = name.rpartition('.')
    found = {
        kind
        for registry in _registries()
        if not scope or registry.scope == scope
        for kind in [registry.module_dict.get(plain)]
        if inspect.isclass(kind)
    }
    return found.pop() if len(found) == 1 else None


def _class_that_failed(error: BaseException) -> type | None:
    """Return the innermost class that MMEngine was about to build."""
    found = None
    trace = error.__traceback__
    while trace is not None:
        kind = trace.tb_frame.f_locals.get('obj_cls')
        if trace.tb_frame.f_code.co_name == 'build_from_cfg' and inspect.isclass(kind):
            found = kind
        trace = trace.tb_next
    return found


def _registries() -> list[Any]:
    from mmengine import registry

    roots = [value for value in vars(registry).values() if isinstance(value, registry.Registry)]
    return [part for root in roots for part in (root, *root.children.values())]


def _registered_names() -> list[str]:
    lazy = [name for part in _registries() for name in getattr(part, 'lazy_modules', ())]
    return [*(name for part in _registries() for name in part.module_dict), *lazy]


def _suggestion(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, sorted({*known} - {'self'}), n=1)
    return f'; did you mean {near[0]}?' if near else ''
