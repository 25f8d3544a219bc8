"""LabelMe: a JSON file beside each image; rectangles, polygons, circles and masks become boxes with their outlines."""

from __future__ import annotations

import base64
import io
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

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
    read_text,
    sizes_of,
    split_names,
    unlabelled,
)
from emo_mm.data.layouts.masks.pixels import NO_IMAGE
from emo_mm.data.outlines import MOST_PIXELS, ellipse, rle_of
from emo_mm.data.splits import count, files_under, inside
from emo_mm.errors import UserError

Size = tuple[int, int]  # width and height of an image


class LabelmeLayout(BoxLayout):
    """JSON files beside the images."""

    name = 'LabelMe files'
    looks_like = 'train/*.json beside the images'
    usual: ClassVar[str] = '{split}/*.json beside the images'

    def files_of(self, root: Path, split: str) -> tuple[Path, ...]:
        """Return the folder of a split; the root itself is that of the training split."""
        kinds = ('{}', 'images/{}', '{}/images', 'annotations/{}', '{}/annotations', 'labels/{}', '{}/labels')
        folders = [root / kind.format(name) for name in split_names(split) for kind in kinds]
        if split == 'train':
            folders += [root / 'annotations', root / 'labels', root / 'images', root]
        return next(((folder,) for folder in folders if self.takes(folder)), ())

    def takes(self, path: Path) -> bool:
        """Take a folder of JSON files with shapes."""
        listed = sorted(each for each in path.glob('*.json') if each.name[0] != '.') if path.is_dir() else []
        return bool(listed) and _has_shapes(listed[0])

    def read_boxes(self, place: BoxPlace) -> BoxSet:
        """Return the boxes of all JSON files of the split."""
        (folder,) = place.sources
        named = [] if place.images is None else [place.images]
        names = [name for name in split_names(place.split) if name in folder.parts[-2:]]
        beside = [place.root / 'images' / name for name in names] + [place.root / name for name in names]
        finder = ImageFinder([*named, folder, folder.parent / 'images', *beside])
        read = [_image(folder / name, finder, place.root) for name in files_under(folder, ('.json',))]
        others = Counter(kind for _, kinds in read for kind in kinds)
        images = [image for image, _ in read]
        return named_boxes(place, images, notes=(*unlabelled(folder, (one.path for one in images)), *left_out(others)))


LABELME = LabelmeLayout()


def _has_shapes(path: Path) -> bool:
    try:
        _content(path)
    except UserError:
        return False
    return True


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f'{path}: is not valid JSON ({error})') from None
    if not isinstance(content, dict) or not isinstance(content.get('shapes'), list):
        raise UserError(f"{path}: has no list 'shapes', so it is no LabelMe file")
    return content


def _image(path: Path, finder: ImageFinder, root: Path) -> tuple[NamedImage, list[str]]:
    """Return the image of a JSON file with its boxes, and the kinds of shapes that are no boxes."""
    content = _content(path)
    told = str(content.get('imagePath') or '').replace('\\', '/')
    told = told if is_path(told) else ''
    image = finder.find(told, path.stem) or path.parent / (told or f'{path.stem}.jpg')
    width, height = content.get('imageWidth'), content.get('imageHeight')
    size = (width, height) if isinstance(width, int) and isinstance(height, int) else (0, 0)
    shapes = [shape if isinstance(shape, dict) else {} for shape in content['shapes']]
    kinds = [str(shape.get('shape_type') or 'polygon') for shape in shapes]
    if 'mask' in kinds and not all(size):
        size = sizes_of([image])[0]
    labels = [
        (_label(shape, kind, f'{inside(root, path)}: shape {number}', size), shape.get('group_id'))
        for number, (shape, kind) in enumerate(zip(shapes, kinds, strict=True), 1)
        if kind in _KINDS
    ]
    return NamedImage(image, _objects(labels), *size), [kind for kind in kinds if kind not in _KINDS]


def _objects(labels: Sequence[tuple[Label, Any]]) -> list[Label]:
    """Return the label of each object: polygons of one class and one ``group_id`` are the parts of one."""
    objects: dict[tuple[str, int] | int, Label] = {}
    for number, ((name, box), group) in enumerate(labels):
        is_part = isinstance(group, int) and isinstance(box, Box) and bool(box.polygons) and not box.filled
        key = (name, group) if is_part else number
        objects[key] = (name, _with_part(objects[key][1], box)) if key in objects else (name, box)
    return list(objects.values())


def _with_part(whole: Box | LabelFault, part: Box | LabelFault) -> Box:
    assert isinstance(whole, Box)
    assert isinstance(part, Box)
    polygons = [*whole.polygons, *part.polygons]
    around = Box.around(0, [value for points in polygons for value in points], whole.source)
    return replace(around, segmentation=polygons)


def _label(shape: dict[str, Any], kind: str, source: str, size: Size) -> Label:
    name = str(shape.get('label') or '')
    try:
        points = [float(value) for x, y in shape['points'] for value in (x, y)]
    except (KeyError, TypeError, ValueError, OverflowError):
        return name, LabelFault(source, f'a {kind} without points')
    least = 6 if kind == 'polygon' else 4
    if len(points) < least or not all(map(math.isfinite, points)) or not name:
        return name, LabelFault(source, f'a {kind} of {count(len(points) // 2, "point")} called {name!r}')
    return name, _KINDS[kind](points, shape, source, size)


def _polygon(points: Sequence[float], shape: dict[str, Any], source: str, size: Size) -> Box:
    return Box.around(0, points, source)


def _rectangle(points: Sequence[float], shape: dict[str, Any], source: str, size: Size) -> Box:
    return replace(Box.around(0, points, source, outline=False), filled=True)


def _circle(points: Sequence[float], shape: dict[str, Any], source: str, size: Size) -> Box:
    """Return the box around a circle, which is given by its centre and a point of its border."""
    radius = math.dist(points[:2], points[2:4])
    return Box.around(0, ellipse(points[0], points[1], radius, radius), source)


def _mask(points: Sequence[float], shape: dict[str, Any], source: str, size: Size) -> Box | LabelFault:
    """Return the box of a mask, a picture of the part of the image from the first point on."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(shape['mask'])), formats=('PNG',)) as picture:
            part = np.asarray(picture.convert('L'))
    except (KeyError, TypeError, ValueError, *NO_IMAGE):
        return LabelFault(source, 'a mask that is no picture')
    left, top = round(points[0]), round(points[1])
    if not (part.any() and 0 < math.prod(size) <= MOST_PIXELS and min(size) > 0):
        return LabelFault(source, 'a mask without a pixel, or of an image that cannot be read')
    outline = rle_of(part, left, top, *size)
    return Box(0, left, top, part.shape[1], part.shape[0], segmentation=outline, source=source)


_KINDS: Mapping[str, Callable[[Sequence[float], dict[str, Any], str, Size], Box | LabelFault]] = {
    'polygon': _polygon,
    'rectangle': _rectangle,
    'circle': _circle,
    'mask': _mask,
}
