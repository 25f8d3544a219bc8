"""Finds the parts of an MMEngine config that speak of data: data sets inside wrappers, classes, heads, evaluators."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emo_mm.errors import UserError
from emo_mm.tasks import TASK_OF_SCOPE

if TYPE_CHECKING:
    from mmengine.config import Config

# Parts of a model whose `num_classes` is not the number of classes of the data: a timm backbone's 0 means "no
# classifier", a region proposal network tells object from background, a teacher has learnt its classes.
NOT_OF_THE_DATA = ('backbone', 'rpn_head', 'teacher')


def task_scope(cfg: Config) -> str:
    """The toolbox of a config.

    Raises:
        UserError: ``default_scope`` names none of the three toolboxes.
    """
    scope = cfg.get('default_scope')
    if scope not in TASK_OF_SCOPE:
        raise UserError(
            f'{cfg.filename or "config"}: default_scope is {scope!r}; it must be one of {", ".join(TASK_OF_SCOPE)}'
        )
    return str(scope)


def type_name(part: Mapping[str, Any]) -> str:
    """The class name of a config part, without its scope."""
    kind = part.get('type')
    return (kind if isinstance(kind, str) else getattr(kind, '__name__', '')).rpartition('.')[2]


def leaf_datasets(dataset: dict[str, Any]) -> list[dict[str, Any]]:
    """The data sets inside wrappers such as ``RepeatDataset`` and ``ConcatDataset``, or the data set itself.

    Raises:
        UserError: If one is no dict with a type.
    """
    if not isinstance(dataset, Mapping) or not type_name(dataset):
        raise UserError(f'a data set of the config is {dataset!r}; it must be a dict with a type')
    if 'dataset' in dataset:
        return leaf_datasets(dataset['dataset'])
    if 'datasets' in dataset:
        return [leaf for part in dataset['datasets'] for leaf in leaf_datasets(part)]
    return [dataset]


def split_datasets(cfg: Config, split: str) -> list[dict[str, Any]]:
    """The data sets of a split's loader; none if the config has no such loader."""
    loader = cfg.get(f'{split}_dataloader')
    return leaf_datasets(loader['dataset']) if loader else []


def only_dataset(cfg: Config, split: str) -> dict[str, Any] | None:
    """The one data set of a split's loader, or None if the config has no such loader.

    Raises:
        UserError: The loader joins several data sets, so it is not clear which one to replace.
    """
    leaves = split_datasets(cfg, split)
    if len(leaves) > 1:
        raise UserError(
            f'{cfg.filename or "config"}: {split}_dataloader joins {len(leaves)} data sets; own data can take the '
            'place of one only, so use a config with one'
        )
    return leaves[0] if leaves else None


def path_in(dataset: dict[str, Any], path: str) -> Path:
    """Joins a path of a data set with its root, as MMEngine does."""
    return Path(dataset.get('data_root') or '') / path


def image_prefixes(dataset: dict[str, Any]) -> list[str]:
    """The folders below its root that a data set reads, in whichever of the three toolboxes' ways they are written.

    Raises:
        UserError: If they are no texts.
    """
    prefix = dataset.get('data_prefix') or dataset.get('split') or ''
    folders = [folder or '' for folder in prefix.values()] if isinstance(prefix, Mapping) else [prefix]
    if not all(isinstance(folder, str) for folder in folders):
        raise UserError(f'data_prefix of a data set is {prefix!r}; it must be a folder, or a dict of folders')
    return folders


def dataset_classes(dataset: dict[str, Any], scope: str) -> tuple[str, ...] | None:
    """Class names of a data set: from its config, or those its type declares; None if it finds them by itself."""
    classes = (dataset.get('metainfo') or {}).get('classes') or dataset.get('classes')
    if classes is None:
        kind = _dataset_type(dataset, scope)
        if kind is None:
            raise UserError(f'data set type {dataset["type"]}: not known to {scope}')
        classes = getattr(kind, 'METAINFO', {}).get('classes')
    return None if classes is None else (classes,) if isinstance(classes, str) else tuple(classes)


def inherits(dataset: dict[str, Any], scope: str, bases: tuple[str, ...]) -> bool:
    """Tell whether the type of a data set is one of some classes, named without their scope, or made from one."""
    kind = _dataset_type(dataset, scope)
    return any(base.__name__ in bases for base in getattr(kind, '__mro__', ()))


def _dataset_type(dataset: dict[str, Any], scope: str) -> Any:
    """Return the class of a data set; None if it is not known."""
    from mmengine.registry import DATASETS

    name = _scoped(dataset['type'], scope) if isinstance(dataset['type'], str) else dataset['type']
    return DATASETS.get(name) if isinstance(name, str) else name


def _scoped(name: str, scope: str) -> str:
    return name if '.' in name else f'{scope}.{name}'


def parts(node: Any, skip: tuple[str, ...] = ()) -> Iterator[dict[str, Any]]:
    """Every dict inside a config part, itself included, except below the keys to skip."""
    if isinstance(node, dict):
        yield node
        for key, value in node.items():
            if key not in skip:
                yield from parts(value, skip)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from parts(value, skip)


def counting_parts(cfg: Config) -> list[dict[str, Any]]:
    """The parts of a config whose ``num_classes`` must be the number of classes of the data."""
    places = [cfg.get('model'), cfg.get('data_preprocessor'), cfg.get('val_evaluator'), cfg.get('test_evaluator')]
    return [part for place in places for part in parts(place, NOT_OF_THE_DATA) if part.get('num_classes') is not None]
