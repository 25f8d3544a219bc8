"""What the pipelines of a config make of the sizes of images, and how another size is written into them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emo_mm.config.edits import Edit, Part
from emo_mm.config.parts import type_name
from emo_mm.config.view import ConfigView, inner_parts
from emo_mm.errors import UserError

# step of a pipeline -> the setting that gives a size in pixels
_RESIZING = {
    'Resize': 'scale',
    'RandomResize': 'scale',
    'RandomChoiceResize': 'scales',
    'ResizeEdge': 'scale',
    'RandomResizedCrop': 'scale',
    'EfficientNetRandomCrop': 'scale',
    'RandomCrop': 'crop_size',
    'CenterCrop': 'crop_size',
    'EfficientNetCenterCrop': 'crop_size',
}
# steps that only fill what those leave, or put images together at their size
_FILLING = {
    'Pad': 'size',
    'Mosaic': 'img_scale',
    'CachedMosaic': 'img_scale',
    'MixUp': 'img_scale',
    'CachedMixUp': 'img_scale',
}
_MOSAICS = ('Mosaic', 'CachedMosaic')
# settings by which steps that are not in the tables tell that they know a size
_TELLING = ('scale', 'scales', 'img_scale', 'crop_size', 'size')


def steps_of(view: ConfigView, split: str) -> Iterator[Part]:
    """Yield the steps of the pipelines of a split, those inside other steps included, in their order.

    Those of a hook that exchanges the pipeline of a training, such as ``LastEpochsHook``, come first.
    """
    loader = view.splits[split].loader
    if loader is None:
        return
    hooks = view.custom_hooks if split == 'train' else []
    for part in (*inner_parts(hooks, 'custom_hooks'), *inner_parts(loader.node, loader.place)):
        if ('.pipeline.' in part.place or '.switch_pipeline.' in part.place) and type_name(part.node):
            yield part


def input_side(view: ConfigView) -> int:
    """Return the short side in pixels that a training brings images to: of its last resizing or cropping.

    Raises:
        UserError: If no step of the pipeline has a size.
    """
    sized = [part for part in steps_of(view, 'train') if type_name(part.node) in _RESIZING]
    values = [part.node.get(_RESIZING[type_name(part.node)]) for part in sized]
    sides = [side for value in values if (side := _short_side(value)) is not None]
    if not sides:
        names = ', '.join(dict.fromkeys(type_name(part.node) for part in steps_of(view, 'train')))
        raise UserError(f'{view.name}: no step of the train pipeline ({names}) resizes to a size or crops one')
    return sides[-1]


def _short_side(value: Any) -> int | None:
    """Return the short side of a size: a number, a pair, or the last of several pairs."""
    if isinstance(value, (list, tuple)) and value and isinstance(value[-1], (list, tuple)):
        value = value[-1]
    sides = list(value) if isinstance(value, (list, tuple)) else [value]
    whole = [side for side in sides if isinstance(side, int) and not isinstance(side, bool) and side > 1]
    return min(whole) if whole and len(whole) == len(sides) else None


def resized_pipelines(view: ConfigView, factor: float) -> tuple[Edit, ...]:
    """Return the edits that multiply all sizes in the pipelines of a config.

    Raises:
        UserError: If a step has a size that is not understood; the message names it.
    """
    edits: list[Edit] = []
    for split in view.splits:
        for part in steps_of(view, split):
            kind = type_name(part.node)
            key = (_RESIZING | _FILLING).get(kind)
            other = [name for name in _TELLING if name != key and _short_side(part.node.get(name)) is not None]
            missing = kind in _RESIZING and _short_side(part.node.get(_RESIZING[kind])) is None
            if other or missing:
                given = f'{other[0]}={part.node[other[0]]!r}' if other else f'no {key} in whole pixels'
                raise UserError(
                    f'--input: the step {kind} ({part.place}) has {given}, which cannot be changed to another input '
                    'size; change it with --cfg-options'
                )
            if key is not None and part.node.get(key) is not None:
                edits += part.edit(**{key: scaled(part.node[key], factor)})
    return tuple(edits)


def scaled(value: Any, factor: float) -> Any:
    """Return a size, or nested sizes, multiplied and rounded to whole pixels."""
    if isinstance(value, (list, tuple)):
        return type(value)(scaled(one, factor) for one in value)
    return round(value * factor) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


@dataclass(frozen=True)
class Resizing:
    """How images are brought to the size of the network.

    Attributes:
        scale: Width and height in pixels; the longest and the short side where the aspect ratio is kept.
        keep_ratio: Whether it is kept.
    """

    scale: tuple[int, int]
    keep_ratio: bool

    def __str__(self) -> str:
        """Return the size for messages."""
        return f'{self.scale[0]}x{self.scale[1]}'

    def factors(self, images: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return by what images of some widths and heights (N, 2) are multiplied, (N, 2)."""
        if not self.keep_ratio:
            return np.array(self.scale) / images
        long, short = max(self.scale), min(self.scale)
        same = np.minimum(long / images.max(axis=1), short / images.min(axis=1))
        return np.stack([same, same], axis=1)

    def times(self, factor: float) -> Resizing:
        """Return the same for another size of input."""
        return Resizing(scaled(self.scale, factor), self.keep_ratio)


def resizing_of(view: ConfigView) -> Resizing | None:
    """Return how a detector's training resizes images, augmentation aside; None if no step tells.

    The images of a mosaic are brought to its size each, whatever its sum is resized to.
    """
    for part in steps_of(view, 'train'):
        kind = type_name(part.node)
        if kind in _MOSAICS and _short_side(part.node.get('img_scale')) is not None:
            width, height = part.node['img_scale']
            return Resizing((width, height), True)
        scale = part.node.get(_RESIZING[kind]) if kind in ('Resize', 'RandomResize', 'RandomChoiceResize') else None
        if isinstance(scale, (list, tuple)) and scale and isinstance(scale[0], (list, tuple)):
            scale = scale[len(scale) // 2]
        if _short_side(scale) is not None:
            pair: Any = (scale, scale) if isinstance(scale, int) else scale
            return Resizing((int(pair[0]), int(pair[-1])), bool(part.node.get('keep_ratio', kind == 'RandomResize')))
    return None
