"""CVAT for images 1.1: one XML file of all images and their shapes, which become boxes with outlines.

Rectangles are boxes; polygons, ellipses and masks are outlines too. Shapes are taken in the order in which they are
drawn, by their ``z_order``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import ClassVar
from xml.etree.ElementTree import Element

import numpy as np

from emo_mm.data.boxes import Box, BoxSet, LabelFault
from emo_mm.data.layouts.boxes.base import (
    BoxLayout,
    BoxPlace,
    ImageFinder,
    Label,
    NamedImage,
    is_path,
    left_out,
    named_boxes,
    number,
    read_xml,
    split_names,
)
from emo_mm.data.outlines import MOST_PIXELS, corners, ellipse, rle_of, turned
from emo_mm.data.splits import inside
from emo_mm.errors import UserError

_SHAPES = ('box', 'polygon', 'polyline', 'points', 'ellipse', 'mask', 'cuboid', 'skeleton')


class CvatLayout(BoxLayout):
    """The XML file of CVAT."""

    name = 'CVAT annotations'
    looks_like = 'train.xml or train/annotations.xml, or annotations.xml whose images have subsets'
    usual: ClassVar[str] = '{split}.xml, {split}/annotations.xml, or annotations.xml with images of the subset {split}'

    def files_of(self, root: Path, split: str) -> tuple[Path, ...]:
        """Return the file of a split, or the file of all subsets if it has this one."""
        names = split_names(split)
        own = [root / path for name in names for path in (f'{name}.xml', f'{name}/annotations.xml')]
        own += [root / 'annotations' / f'{name}.xml' for name in names]
        for path in own:
            if self.takes(path):
                return (path,)
        shared = root / 'annotations.xml'
        return (shared,) if self.takes(shared) and any(True for _ in _entries(shared, split)) else ()

    def takes(self, path: Path) -> bool:
        """Take an XML file of images."""
        if path.suffix != '.xml' or not path.is_file():
            return False
        with path.open('rb') as file:
            return b'<annotations' in file.read(4096)

    def read_boxes(self, place: BoxPlace) -> BoxSet:
        """Return the boxes of the images of the split; the classes are in the order of the project."""
        (path,) = place.sources
        names = split_names(place.split)
        bases = [path.parent, place.root]
        folders = [base / kind / name for base in bases for kind in ('images', '') for name in (*names, '')]
        finder = ImageFinder([*([place.images] if place.images else []), *folders])
        entries = list(_entries(path, place.split))
        images = [_image(entry, finder, inside(place.root, path)) for entry in entries]
        classes = [label.text or '' for label in read_xml(path).findall('meta//labels/label/name')]
        return named_boxes(place, images, tuple(dict.fromkeys(classes)), _notes(entries))


CVAT = CvatLayout()


def _entries(path: Path, split: str) -> Iterator[Element]:
    """Return the images of a file that belong to a split: by their subset, if any has one, else all to train."""
    names = {*split_names(split)}
    entries = read_xml(path).findall('image')
    subsets = {(entry.get('subset') or '').lower() for entry in entries} - {'', 'default'}
    alone = path.name != 'annotations.xml' or path.parent.name in names
    for entry in entries:
        subset = (entry.get('subset') or '').lower()
        if alone or (subset in names if subsets else split == 'train'):
            yield entry


def _image(entry: Element, finder: ImageFinder, name: str) -> NamedImage:
    told = entry.get('name') or ''
    if not is_path(told) or not told:
        raise UserError(f'{name}: an image is called {told[:80]!r}, which is no name of a file')
    image = finder.find(told, Path(told).stem) or finder.folders[0] / told
    numbered = list(enumerate((shape for shape in entry if shape.tag in _SHAPES), 1))
    width, height = (int(number(entry.get(side)) or 0) for side in ('width', 'height'))
    labels = [
        _label(shape, f'{name}: {told}: shape {index}', (width, height))
        for index, shape in sorted(numbered, key=lambda pair: number(pair[1].get('z_order')) or 0)
        if shape.tag in _KINDS
    ]
    return NamedImage(image, labels, width, height)


def _label(shape: Element, source: str, size: tuple[int, int]) -> Label:
    name = shape.get('label') or ''
    try:
        return name, _KINDS[shape.tag](shape, source, size)
    except ValueError:
        return name, LabelFault(source, f'a {shape.tag} whose coordinates are not numbers')


def _values(shape: Element, *names: str) -> list[float]:
    """Return attributes as numbers.

    Raises:
        ValueError: If one is absent, or no finite number.
    """
    values = [float(shape.get(name) or '') for name in names]
    if not all(map(math.isfinite, values)):
        raise ValueError
    return values


def _box(shape: Element, source: str, size: tuple[int, int]) -> Box:
    left, top, right, bottom = _values(shape, 'xtl', 'ytl', 'xbr', 'ybr')
    points = corners(left, top, right, bottom)
    if angle := number(shape.get('rotation')):
        points = turned(points, (left + right) / 2, (top + bottom) / 2, angle)
    return Box.around(0, points, source, outline=False)


def _polygon(shape: Element, source: str, size: tuple[int, int]) -> Box | LabelFault:
    points = [float(value) for point in (shape.get('points') or '').split(';') for value in point.split(',')]
    if len(points) < 6 or len(points) % 2 or not all(map(math.isfinite, points)):
        return LabelFault(source, 'a polygon of fewer than three points')
    return Box.around(0, points, source)


def _ellipse(shape: Element, source: str, size: tuple[int, int]) -> Box:
    x, y, x_radius, y_radius = _values(shape, 'cx', 'cy', 'rx', 'ry')
    points = turned(ellipse(x, y, x_radius, y_radius), x, y, number(shape.get('rotation')) or 0)
    return Box.around(0, points, source)


def _mask(shape: Element, source: str, size: tuple[int, int]) -> Box | LabelFault:
    """Return the box of a mask: runs of pixels outside and inside the object in turn, row by row of a part."""
    left, top, width, height = (int(value) for value in _values(shape, 'left', 'top', 'width', 'height'))
    runs = [int(run) for run in (shape.get('rle') or '').split(',')]
    if min(runs) < 0 or sum(runs) != width * height or min(width, height) < 1:
        return LabelFault(source, f'a mask whose runs do not make up {width}x{height} pixels')
    inside = 0 <= left <= size[0] - width and 0 <= top <= size[1] - height
    if not inside or math.prod(size) > MOST_PIXELS:
        return LabelFault(source, f'a mask of {width}x{height} pixels that is not inside its image')
    part = np.repeat(np.arange(len(runs)) % 2, runs).reshape(height, width)
    return Box(0, left, top, width, height, segmentation=rle_of(part, left, top, *size), source=source)


_KINDS: Mapping[str, Callable[[Element, str, tuple[int, int]], Box | LabelFault]] = {
    'box': _box,
    'polygon': _polygon,
    'ellipse': _ellipse,
    'mask': _mask,
}


def _notes(entries: list[Element]) -> tuple[str, ...]:
    others = Counter(shape.tag for entry in entries for shape in entry if shape.tag in set(_SHAPES) - set(_KINDS))
    return left_out(others)
