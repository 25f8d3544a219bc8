"""``--cfg-options``: what it may set, and the name of what was probably meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from emo_mm.compat import register_toolbox
from emo_mm.config.check import check_arguments, check_parts_alone
from emo_mm.errors import UserError

if TYPE_CHECKING:
    from mmengine.config import Config


def merge(cfg: Config, changes: dict[str, Any]) -> None:
    """Merge dotted keys into a config.

    Raises:
        UserError: If nothing reads a key, or its value does not fit.
    """
    for key in changes:
        _check_read(cfg, key)
    before = {key: _value_at(cfg, key) for key in changes}
    try:
        cfg.merge_from_dict(changes)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise UserError(f'--cfg-options {" ".join(changes)}: {error}') from error
    for key, value in changes.items():
        _check_number(key, before[key], value)
    register_toolbox(cfg.default_scope)
    try:
        # what the config had before is read by its author's word
        check_arguments(cfg, [key for key in changes if before[key] is None])
        check_parts_alone(cfg, changes)
    except UserError as error:
        raise UserError(f'--cfg-options {error}') from None


# What mmengine's Runner and the entry points read from a config. All else at its top is a variable of the file: what it
# was used for has a copy of its value already.
_RUNNER_KEYS = {
    'auto_scale_lr', 'cfg', 'compile', 'custom_hooks', 'custom_imports', 'data_preprocessor', 'default_hooks',
    'default_scope', 'env_cfg', 'experiment_name', 'find_unused_parameters', 'launcher', 'load_from', 'log_level',
    'log_processor', 'model', 'model_wrapper_cfg', 'optim_wrapper', 'param_scheduler', 'randomness', 'resume',
    'runner_type', 'sync_bn', 'test_cfg', 'test_dataloader', 'test_evaluator', 'train_cfg', 'train_dataloader',
    'val_cfg', 'val_dataloader', 'val_evaluator', 'visualizer', 'work_dir',
}  # fmt: skip
# Places of a config that have a flag of their own.
_FLAGS = {
    'train_cfg.max_epochs': '--epochs',
    'train_cfg.max_iters': '--iters',
    'train_dataloader.batch_size': '--batch-size',
    'train_dataloader.num_workers': '--workers',
    'train_dataloader.dataset.data_root': '--data-root',
    'optim_wrapper.optimizer.lr': '--lr',
    'randomness.seed': '--seed',
}
_MOST_PLACES = 3  # that a message names


def _check_read(cfg: Config, key: str) -> None:
    """Check that the runner reads what a key leads to.

    Raises:
        UserError: If it does not; the message names the places that hold the same, or a name that comes near.
    """
    first, _, rest = key.partition('.')
    is_copy = first == 'data_preprocessor' and 'data_preprocessor' in (cfg.get('model') or {})
    if first in _RUNNER_KEYS and not is_copy:
        return
    places = [f'{place}.{rest}' if rest else place for place in _places_of(cfg, first)]
    hint = _instead(places) or _suggestion(first)
    if first in cfg:
        raise UserError(
            f'--cfg-options {key}: {first} is a variable of the config file, which nothing reads after the file was '
            f'read{hint}'
        )
    raise UserError(f'--cfg-options {key}: the config has no {first!r}{hint}')


def _instead(places: list[str]) -> str:
    """Return what to set instead: the flag where there is one, and the places."""
    if not places:
        return ''
    flags = [_FLAGS[place] for place in places if place in _FLAGS]
    more = f' and {len(places) - _MOST_PLACES} more' if len(places) > _MOST_PLACES else ''
    return f'; set {" or ".join([*flags[:1], ", ".join(places[:_MOST_PLACES])])}{more}'


def _suggestion(first: str) -> str:
    near = difflib.get_close_matches(first, _RUNNER_KEYS, n=1)
    return f'; did you mean {near[0]}?' if near else ''


def _places_of(cfg: Config, name: str) -> list[str]:
    """Return the places that a runner reads which have a name, or else the value of the variable of that name."""
    nodes = [one for key in sorted(_RUNNER_KEYS & set(cfg)) for one in _nodes(cfg[key], key)]
    value = cfg.get(name)
    named = [place for place, _ in nodes if place.rpartition('.')[2] == name]
    if isinstance(value, (str, dict, list, tuple)):
        same = [place for place, found in nodes if type(found) is type(value) and found == value]
    elif type(value) is int and value > 1:  # a size of images; elsewhere the number may mean anything
        sizes = [place for place, found in nodes if type(found) is int and found == value and '_dataloader.' in place]
        same = [re.sub(r'(\.\d+)+$', '', place) for place in sizes]
    else:
        same = []
    known = [place for place in _FLAGS if place.rpartition('.')[2] == name]
    order = ('train_', 'val_', 'test_', '')
    every = dict.fromkeys([*known, *(named or same)])
    return sorted(every, key=lambda place: next(i for i, start in enumerate(order) if place.startswith(start)))


def _nodes(node: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Yield every value inside a part of a config with its place, outer ones first."""
    yield place, node
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _nodes(value, f'{place}.{key}')
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            yield from _nodes(value, f'{place}.{index}')


def _value_at(cfg: Config, key: str) -> Any:
    node: Any = cfg
    for part in key.split('.'):
        if hasattr(node, 'get'):
            node = node.get(part)
        elif isinstance(node, (list, tuple)) and part.isdecimal() and int(part) < len(node):
            node = node[int(part)]
        else:
            return None
    return node


# Settings that are one number, whatever class reads them.
_ONE_NUMBER = {'lr', 'weight_decay', 'batch_size', 'num_workers', 'interval', 'max_epochs', 'max_iters', 'val_interval'}


def _check_number(key: str, before: Any, value: Any) -> None:
    """Check that no comma made a list of what is one number.

    Raises:
        UserError: If it did.
    """
    is_number = isinstance(before, float) or key.rpartition('.')[2] in _ONE_NUMBER
    if not is_number or not isinstance(value, (list, tuple)):
        return
    numbers = all(type(one) is int for one in value)
    meant = '; decimals are written with a point, as in 0.01' if len(value) == 2 and numbers else ''
    raise UserError(
        f'--cfg-options {key}: {value!r} is a list of {len(value)}, as a comma makes one, and must be one number{meant}'
    )
