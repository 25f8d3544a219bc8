"""Wrong names and arguments in a config, with a suggestion of what may be meant."""

from __future__ import annotations

import difflib
import inspect
import re
import traceback
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from emo_mm.errors import UserError

if TYPE_CHECKING:
    from mmengine.config import Config


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
    """Check that parts of a config have the arguments that dotted keys name, where the class of a part is known.

    MMEngine finds a wrong argument when it builds the part, some parts only after the data were loaded.

    Args:
        cfg: The config.
        keys: The keys, such as ``optim_wrapper.optimizer.lr``.

    Raises:
        UserError: If a class has no such argument; the message suggests one that comes near.
    """
    for key in keys:
        *parents, name = key.split('.')
        part = _part_at(cfg, parents)
        kind = _class_of(part) if isinstance(part, dict) else None
        if kind is not None and name not in _NO_ARGUMENTS and not _takes(kind, name):
            known = inspect.signature(kind).parameters
            raise UserError(f'{key}: {kind.__name__} has no argument {name!r}{_suggestion(name, known)}')


def _part_at(cfg: Config, path: Iterable[str]) -> Any:
    """Return what a config holds below the given keys and indices; None if there is no such part."""
    part: Any = cfg
    for key in path:
        if isinstance(part, dict | type(cfg)):
            part = part.get(key)
        elif isinstance(part, (list, tuple)) and key.isdecimal() and int(key) < len(part):
            part = part[int(key)]
        else:
            return None
    return part


def _takes(kind: type, name: str) -> bool:
    """Tell whether a class takes an argument by a name."""
    arguments = inspect.signature(kind).parameters
    return name in arguments or any(one.kind is one.VAR_KEYWORD for one in arguments.values())


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
    """Return the innermost class that MMEngine was about to build; None if it was building none.

    The error has its name at most in its text, where the names of two classes of different libraries may be the same.
    The class itself is a local variable of MMEngine's ``build_from_cfg``, whose frames the traceback still holds. If
    another version of MMEngine calls either otherwise, the message lacks the class and the suggestion, no more.
    """
    classes = [
        frame.f_locals.get('obj_cls')
        for frame, _ in traceback.walk_tb(error.__traceback__)
        if frame.f_code.co_name == 'build_from_cfg'
    ]
    return next((kind for kind in reversed(classes) if inspect.isclass(kind)), None)


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
