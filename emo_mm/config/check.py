"""Wrong names and arguments in a config, with a suggestion of what may be meant."""

from __future__ import annotations

import copy
import difflib
import inspect
import re
import traceback
from collections.abc import Callable, Iterable
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
    if isinstance(error, AssertionError):
        kind = _class_that_failed(error)
        reason = text or f'it asserts {traceback.extract_tb(error.__traceback__)[-1].line or "something else"!r}'
        return reason if kind is None else f'{kind.__name__} does not take these arguments together: {reason}'
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
        if not isinstance(part, dict) or name in _NO_ARGUMENTS:
            continue
        fault = _fault_of_argument(part, '.'.join(parents), name)
        if fault:
            raise UserError(f'{key}: {fault}')


def _fault_of_argument(part: dict[str, Any], place: str, name: str) -> str:
    """Return why nothing can read a name in a part of a config; an empty text if something may."""
    kind = _class_of(part)
    if 'type' in part:
        if kind is None or _takes(kind, name):
            return ''
        return f'{kind.__name__} has no argument {name!r}{_suggestion(name, _arguments(kind))}'
    if place in _WITHOUT_TYPE:
        known = _WITHOUT_TYPE[place]()
        return '' if name in known else f'nothing reads {name!r} in {place}{_suggestion(name, known)}'
    near = _slip_of(name, part)
    return f'{place} has no {name!r}; did you mean {near}?' if near else ''


def check_parts_alone(cfg: Config, keys: Iterable[str]) -> None:
    """Check that the small parts around dotted keys can be built: anchors, coders, assigners and their like.

    They hold no weights and read no files, so that it costs nothing. What is wrong with others is told when the model
    is built.

    Args:
        cfg: The config.
        keys: The keys.

    Raises:
        UserError: If one cannot be built.
    """
    from mmengine.registry import TASK_UTILS, DefaultScope

    small = {kind for part in (TASK_UTILS, *TASK_UTILS.children.values()) for kind in part.module_dict.values()}
    for key in keys:
        parents = key.split('.')
        parts = [_part_at(cfg, parents[:depth]) for depth in range(len(parents) - 1, 0, -1)]
        typed = next((part for part in parts if isinstance(part, dict) and 'type' in part), None)
        if typed is None or _class_of(typed) not in small:
            continue
        try:
            with DefaultScope.overwrite_default_scope(cfg.default_scope):
                TASK_UTILS.build(copy.deepcopy(typed))
        except Exception as error:  # whatever its author chose
            raise UserError(f'{key}: {explained(error)}') from error


def _loader_keys() -> set[str]:
    """Return the settings of a loader: those of PyTorch's and those that MMEngine takes out before."""
    from torch.utils.data import DataLoader

    own = {'worker_init_fn', 'num_batch_per_epoch', 'disable_subprocess_warning'}
    return (set(inspect.signature(DataLoader).parameters) | own) - {'self'}


# Parts whose class the config does not name -> the keys that MMEngine reads in them.
_WITHOUT_TYPE: dict[str, Callable[[], set[str]]] = {
    **dict.fromkeys(('train_dataloader', 'val_dataloader', 'test_dataloader'), _loader_keys),
    'env_cfg': lambda: {'cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'},
    'randomness': lambda: {'seed', 'diff_rank_seed', 'deterministic'},
    'auto_scale_lr': lambda: {'base_batch_size', 'enable'},
    'train_cfg': lambda: {'by_epoch', 'max_epochs', 'max_iters', 'val_begin', 'val_interval', 'dynamic_intervals'},
    'val_cfg': lambda: {'fp16'},
    'test_cfg': lambda: {'fp16'},
}


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
    """Tell whether a class takes an argument by a name.

    One that takes any, as it hands what it does not know to another, is taken at its word, unless the name is nearly
    that of an argument.
    """
    known = _arguments(kind)
    if name in known:
        return True
    takes_any = any(one.kind is one.VAR_KEYWORD for one in inspect.signature(kind).parameters.values())
    return takes_any and _slip_of(name, known) is None


def _slip_of(name: str, known: Iterable[str]) -> str | None:
    """Return the name that another one differs from by a slip; numbered names, as of layers, differ on purpose."""
    others = [one for one in known if isinstance(one, str) and one != name]
    near = difflib.get_close_matches(name, others, n=1, cutoff=_NEARLY)
    return near[0] if near and re.sub(r'\d', '', near[0]) != re.sub(r'\d', '', name) else None


_NEARLY = 0.85  # how much two names have in common, of 1, that differ by a slip


def _arguments(kind: type) -> list[str]:
    """Return the names of the arguments of a class, and of its bases where it may hand them on."""
    known: dict[str, None] = {}
    for one in inspect.getmro(kind):
        arguments = inspect.signature(one).parameters if '__init__' in vars(one) and one is not object else {}
        named = (arguments[name] for name in arguments)
        known |= dict.fromkeys(x.name for x in named if x.kind not in (x.VAR_KEYWORD, x.VAR_POSITIONAL))
        if arguments and not any(x.kind is x.VAR_KEYWORD for x in arguments.values()):
            break
    return list(known)


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
