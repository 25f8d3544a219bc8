"""A config read once: the parts that a run is made of, each found, checked and named.

MMEngine's configs are dicts of any shape. Everything that looks for a data set inside its wrappers, for an evaluator
that may be one or several, or for a hook, asks this view instead of the dicts, and returns what it wants changed as
edits (:mod:`emo_mm.config.edits`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from emo_mm.config.edits import Part
from emo_mm.config.parts import NOT_OF_THE_DATA, loads_masks, type_name
from emo_mm.errors import UserError
from emo_mm.tasks import TASKS_OF_SCOPE, Task, task_of_model

if TYPE_CHECKING:
    from mmengine.config import Config

Purpose = Literal['train', 'test']
SPLITS = ('train', 'val', 'test')


@dataclass(frozen=True)
class SplitView:
    """The parts of a config that serve one split.

    Attributes:
        name: ``train``, ``val`` or ``test``.
        loader: The loader; None where the config has none.
        datasets: The data sets of the loader, inside their wrappers.
        evaluators: What computes the metrics.
    """

    name: str
    loader: Part | None
    datasets: tuple[Part, ...]
    evaluators: tuple[Part, ...]

    def metrics(self) -> list[Part]:
        """Return the evaluators and all dicts inside them: some hold others."""
        return [part for evaluator in self.evaluators for part in inner_parts(evaluator.node, evaluator.place)]


@dataclass(frozen=True)
class ConfigView:
    """The parts of a config.

    Attributes:
        cfg: The config itself; nothing but ``apply_edits`` changes it.
        purpose: Whether it is read to train (and validate), or to test.
        name: What messages call it: its file.
        splits: Loader, data sets and evaluators by split.
        hooks: MMEngine's default hooks by name; those set to None are left out.
        schedulers: The schedules of learning rate and momentum.
        counting: The parts whose ``num_classes`` is the number of classes of the data.
    """

    cfg: Config
    purpose: Purpose
    name: str
    splits: Mapping[str, SplitView]
    hooks: Mapping[str, Part]
    schedulers: tuple[Part, ...]
    counting: tuple[Part, ...]

    def only_dataset(self, split: str) -> Part:
        """Return the one data set of a split; an empty part where the config has none.

        Raises:
            UserError: If the loader joins several data sets, so it is not clear which one to replace.
        """
        found = self.splits[split].datasets
        if len(found) > 1:
            raise UserError(
                f'{self.name}: {split}_dataloader joins {len(found)} data sets; own data can take the place of one '
                'only, so use a config with one'
            )
        return found[0] if found else Part(f'{split}_dataloader.dataset', {})

    def part(self, place: str) -> Part:
        """Return the dict at a place of the config, an empty one where there is none."""
        return Part(place, _at(self.cfg, place) or {})

    @property
    def task(self) -> Task:
        """The row of its task.

        Raises:
            UserError: If it names no task.
        """
        return task_of(self.cfg)

    @property
    def data_task(self) -> Task:
        """The row of the task that its data are read for: boxes are enough of objects whose masks no pipeline loads.

        Raises:
            UserError: If it names no task.
        """
        task = self.task
        datasets = [part.node for split in self.splits.values() for part in split.datasets]
        return task if not task.finds_outlines or any(map(loads_masks, datasets)) else task_of_model(task.scope, None)

    @property
    def training(self) -> bool:
        """Whether the run trains."""
        return self.purpose == 'train'

    @property
    def read_splits(self) -> list[SplitView]:
        """The splits that the run reads: training also validates, testing reads the test split only."""
        return [self.splits[name] for name in (('train', 'val') if self.training else ('test',))]

    @property
    def custom_hooks(self) -> list[dict[str, Any]]:
        """The hooks beside MMEngine's default ones."""
        return list(self.cfg.get('custom_hooks') or [])


def read_view(cfg: Config, purpose: Purpose) -> ConfigView:
    """Read a config.

    Args:
        cfg: The config. Splits that share a loader or an evaluator, as in ``test_dataloader = val_dataloader``, get one
            each, so that they can be changed apart.
        purpose: Whether it is read to train or to test.

    Raises:
        UserError: If a data set is no dict with a type.
    """
    for name in [f'{split}_{part}' for split in SPLITS for part in ('dataloader', 'evaluator')]:
        if cfg.get(name) is not None:
            cfg[name] = copy.deepcopy(cfg[name])
    hooks = cfg.get('default_hooks') or {}
    counted = [key for key in ('model', 'data_preprocessor', 'val_evaluator', 'test_evaluator') if cfg.get(key)]
    return ConfigView(
        cfg=cfg,
        purpose=purpose,
        name=str(cfg.filename or 'config'),
        splits={split: _split(cfg, split) for split in SPLITS},
        hooks={name: Part(f'default_hooks.{name}', hook) for name, hook in hooks.items() if hook is not None},
        schedulers=several(cfg, 'param_scheduler'),
        counting=tuple(
            part
            for key in counted
            for part in inner_parts(cfg[key], key, NOT_OF_THE_DATA)
            if part.node.get('num_classes') is not None
        ),
    )


def task_of(cfg: Config) -> Task:
    """Return the row of the task of a config.

    Raises:
        UserError: If ``default_scope`` names no toolbox.
    """
    scope = cfg.get('default_scope')
    if not isinstance(scope, str) or scope not in TASKS_OF_SCOPE:
        raise UserError(
            f'{cfg.filename or "config"}: default_scope is {scope!r}; it must be one of {", ".join(TASKS_OF_SCOPE)}'
        )
    return task_of_model(scope, cfg.get('model'))


def several(cfg: Config, place: str) -> tuple[Part, ...]:
    """Return the dicts of a part that may be one dict or a list of them."""
    node = cfg.get(place)
    if not node:
        return ()
    if isinstance(node, dict):
        return (Part(place, node),)
    return tuple(Part(f'{place}.{index}', item) for index, item in enumerate(node))


def inner_parts(node: Any, place: str, skip: tuple[str, ...] = ()) -> Iterator[Part]:
    """Yield every dict inside a part of a config, itself included, except below the keys to skip."""
    if isinstance(node, dict):
        yield Part(place, node)
        for key, value in node.items():
            if key not in skip:
                yield from inner_parts(value, f'{place}.{key}', skip)
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            yield from inner_parts(value, f'{place}.{index}', skip)


def leaves(node: Any, place: str) -> Iterator[Part]:
    """Yield the data sets inside wrappers such as ``RepeatDataset`` and ``ConcatDataset``, or the data set itself.

    Raises:
        UserError: If one is no dict with a type.
    """
    if not isinstance(node, Mapping) or not type_name(node):
        raise UserError(f'a data set of the config is {node!r}; it must be a dict with a type')
    if 'dataset' in node:
        yield from leaves(node['dataset'], f'{place}.dataset')
    elif 'datasets' in node:
        for index, inner in enumerate(node['datasets']):
            yield from leaves(inner, f'{place}.datasets.{index}')
    else:
        yield Part(place, node)  # type: ignore[arg-type]


def _split(cfg: Config, split: str) -> SplitView:
    place = f'{split}_dataloader'
    loader = cfg.get(place)
    return SplitView(
        name=split,
        loader=Part(place, loader) if loader else None,
        datasets=tuple(leaves(loader['dataset'], f'{place}.dataset')) if loader else (),
        evaluators=several(cfg, f'{split}_evaluator'),
    )


# --- what parts must be -----------------------------------------------------------------------------------------------


def check_parts(cfg: Config, purpose: Purpose) -> None:
    """Check that the parts that a run reads are there and of the types that MMEngine takes.

    Args:
        cfg: The config.
        purpose: Whether it is read to train or to test, which need different parts.

    Raises:
        UserError: If one is missing that the run needs, or is of another type.
    """
    for rule in _RULES:
        parent, _, key = rule.place.rpartition('.')
        holder = _at(cfg, parent) if parent else cfg
        if purpose not in rule.read_by or not hasattr(holder, 'get'):
            continue
        for name in list(holder) if key == '*' else [key]:
            value = holder.get(name)
            left_out = value is None and (rule.may_be_none or name not in holder)
            if not left_out or rule.needed_by in ('parent', purpose):
                _check_kind(f'{f"{parent}." if parent else ""}{name}', value, rule.kind)


def _check_kind(place: str, value: Any, kind: str) -> None:
    """Check that a part is of a kind.

    Raises:
        UserError: If it is not.
    """
    if kind == 'dicts':
        wrong = [one for one in (value if isinstance(value, list) else [value]) if not isinstance(one, dict)]
        if wrong:
            raise UserError(f'{place} has {wrong[0]!r}; its entries must be dicts')
        return
    fits, words = _KINDS[kind]
    if not fits(value):
        raise UserError(f'{place} is {value!r}; {words}')


@dataclass(frozen=True)
class _Rule:
    """What a part of a config must be.

    Attributes:
        place: Dotted keys of the part; a star stands for every key.
        kind: A key of ``_KINDS``, or ``dicts`` for one dict or a list of them.
        needed_by: Purpose that cannot do without it; ``parent`` where it is needed as soon as what holds it is there.
        read_by: Purposes that it is checked for.
        may_be_none: Whether None leaves it out.
    """

    place: str
    kind: str
    needed_by: str = ''
    read_by: tuple[str, ...] = ('train', 'test')
    may_be_none: bool = True


_KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    'dict': (lambda value: isinstance(value, dict), 'it must be a dict'),
    'hook': (lambda value: isinstance(value, dict), 'it must be a dict, or None to leave it out'),
    'whole': (lambda value: type(value) is int, 'it must be a whole number'),
    'number': (lambda value: type(value) in (int, float), 'it must be a number'),
}
_RULES = (
    _Rule('train_cfg', 'dict', needed_by='train'),
    _Rule('train_cfg.max_epochs', 'whole', read_by=('train',), may_be_none=False),
    _Rule('train_cfg.max_iters', 'whole', read_by=('train',), may_be_none=False),
    _Rule('train_dataloader', 'dict', needed_by='train'),
    _Rule('train_dataloader.dataset', 'dict', needed_by='parent'),
    _Rule('val_cfg', 'dict'),
    _Rule('val_dataloader', 'dict'),
    _Rule('val_dataloader.dataset', 'dict', needed_by='parent'),
    _Rule('test_cfg', 'dict', needed_by='test'),
    _Rule('test_dataloader', 'dict', needed_by='test'),
    _Rule('test_dataloader.dataset', 'dict', needed_by='parent'),
    _Rule('optim_wrapper', 'dict', needed_by='train', read_by=('train',)),
    _Rule('optim_wrapper.optimizer', 'dict', read_by=('train',), may_be_none=False),
    _Rule('optim_wrapper.optimizer.lr', 'number', read_by=('train',)),
    _Rule('default_hooks', 'dict', may_be_none=False),
    _Rule('default_hooks.*', 'hook'),
    _Rule('default_hooks.logger.interval', 'whole', read_by=('train',), may_be_none=False),
    _Rule('custom_hooks', 'dicts'),
    _Rule('param_scheduler', 'dicts'),
    _Rule('val_evaluator', 'dicts'),
    _Rule('test_evaluator', 'dicts'),
)


def _at(cfg: Any, place: str) -> Any:
    node = cfg
    for key in place.split('.'):
        node = node.get(key) if hasattr(node, 'get') else None
    return node
