"""CVAT for images 1.1: one XML file of all images and their shapes; rectangles and polygons become boxes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar
from xml.etree.ElementTree import Element

from emo_mm.data.boxes import Box, BoxSet, LabelFault
from emo_mm.data.layouts.boxes.base import (
    BoxLayout,
    BoxPlace,
    ImageFinder,
    Label,
    NamedImage,
    is_path,
    named_boxes,
    number,
    read_xml,
    split_names,
)
from emo_mm.data.splits import count, inside
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
    shapes = [shape for shape in entry if shape.tag in ('box', 'polygon')]
    labels = [_label(shape, f'{name}: {told}: shape {index}') for index, shape in enumerate(shapes, 1)]
    width, height = (int(number(entry.get(side)) or 0) for side in ('width', 'height'))
    return NamedImage(image, labels, width, height)


def _label(shape: Element, source: str) -> Label:
    name = shape.get('label') or ''
    try:
        if shape.tag == 'box':
            left, top, right, bottom = (float(shape.get(side) or '') for side in ('xtl', 'ytl', 'xbr', 'ybr'))
            return name, Box(0, left, top, right - left, bottom - top, source=source)
        points = [float(value) for point in (shape.get('points') or '').split(';') for value in point.split(',')]
    except ValueError:
        return name, LabelFault(source, f'a {shape.tag} whose coordinates are not numbers')
    if len(points) < 6 or len(points) % 2:
        return name, LabelFault(source, 'a polygon of fewer than three points')
    return name, Box.around(0, points, source)


def _notes(entries: list[Element]) -> tuple[str, ...]:
    others = Counter(shape.tag for entry in entries for shape in entry if shape.tag in _SHAPES[2:])
    return tuple(f'{count(times, "shape")} left out: {tag} is no box' for tag, times in sorted(others.items()))
