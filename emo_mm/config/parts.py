"""What single parts of a config say: their type, their folders, their classes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emo_mm.errors import UserError

if TYPE_CHECKING:
    pass

# Parts of a model whose `num_classes` is not the number of classes of the data: a timm backbone's 0 means "no
# classifier", a region proposal network tells object from background, a teacher has learnt its classes.
NOT_OF_THE_DATA = ('backbone', 'rpn_head', 'teacher')


def type_name(part: Mapping[str, Any]) -> str:
    """Return the class name of a config part, without its scope."""
    kind = part.get('type')
    return (kind if isinstance(kind, str) else getattr(kind, '__name__', '')).rpartition('.')[2]


def path_in(dataset: dict[str, Any], path: str) -> Path:
    """Join a path of a data set with its root, as MMEngine does."""
    return Path(dataset.get('data_root') or '') / path


def image_prefixes(dataset: dict[str, Any]) -> list[str]:
    """Return the folders below its root that a data set reads, in whichever toolbox's way they are written.

    Raises:
        UserError: If they are no texts.
    """
    prefix = dataset.get('data_prefix') or dataset.get('split') or ''
    folders = [folder or '' for folder in prefix.values()] if isinstance(prefix, Mapping) else [prefix]
    if not all(isinstance(folder, str) for folder in folders):
        raise UserError(f'data_prefix of a data set is {prefix!r}; it must be a folder, or a dict of folders')
    return folders


def dataset_classes(dataset: dict[str, Any], scope: str) -> tuple[str, ...] | None:
    """Return the class names of a data set: from its config or its type; None if it finds them by itself."""
    classes = (dataset.get('metainfo') or {}).get('classes') or dataset.get('classes')
    if classes is None:
        kind = _dataset_type(dataset, scope)
        if kind is None:
            raise UserError(f'data set type {dataset["type"]}: not known to {scope}')
        classes = getattr(kind, 'METAINFO', {}).get('classes')
    return None if classes is None else (classes,) if isinstance(classes, str) else tuple(classes)


def dataset_palette(dataset: dict[str, Any], scope: str) -> list[tuple[int, ...]]:
    """Return the colours of the classes of a data set, from its config or its type; none if it has none."""
    known = getattr(_dataset_type(dataset, scope), 'METAINFO', {}) | (dataset.get('metainfo') or {})
    return [tuple(colour) for colour in known.get('palette') or ()]


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


def loads_masks(dataset: Mapping[str, Any]) -> bool:
    """Tell whether the pipeline of a data set loads the masks of the objects."""
    steps = dataset.get('pipeline') or ()
    return any(isinstance(step, dict) and step.get('with_mask') is True for step in steps)
