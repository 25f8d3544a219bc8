"""Boxes in COCO, YOLO and Pascal VOC format."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from emo_mm.data.boxes import Box, BoxImage, BoxSet, from_coco
from emo_mm.data.convert.source import NewNames, open_source
from emo_mm.data.outlines import clipped, is_rle, joined
from emo_mm.data.splits import DataRequest, count
from emo_mm.tasks import TASKS

Sides = tuple[float, float, float, float]  # left, top, right and bottom


@dataclass(frozen=True)
class _Image:
    """An image to be written.

    Attributes:
        source: The file.
        name: Its new name.
        boxes: It, with its boxes.
    """

    source: Path
    name: str
    boxes: BoxImage

    @property
    def stem(self) -> str:
        return Path(self.name).stem


@dataclass(frozen=True)
class _Split:
    """A split to be written.

    Attributes:
        name: The split.
        images: Its images.
        classes: Class names in label order.
        content: All that is known of it, as a COCO file has it.
        whole: The boxes of all splits that are no crowds.
    """

    name: str
    images: Sequence[_Image]
    classes: tuple[str, ...]
    content: Mapping[str, Any]
    whole: Sequence[Box]


def write_boxes(form: Format, request: DataRequest, target: Path) -> list[str]:
    """Write a data set of boxes.

    Args:
        form: The format.
        request: The data set.
        target: A new folder.

    Returns:
        Lines that tell what was written.

    Raises:
        UserError: If the source has a fault.
    """
    source = open_source(request, TASKS['det'])
    contents = {
        split: _of_classes(part.annotated(source.names.classes).content, source.names.classes)
        for split, part in source.parts.items()
    }
    sets = {split: from_coco(content) for split, content in contents.items()}
    whole = [box for one in sets.values() for image in one.images for box in image.boxes if not box.crowd]
    lines, taken = list(source.told), set[str]()
    for split, box_set in sets.items():
        paths = [source.parts[split].image_dir / image.file for image in box_set.images]
        names = NewNames(taken if form.one_folder else set()).of(paths, split)
        images = [_Image(*row) for row in zip(paths, names, box_set.images, strict=True)]
        boxes = sum(len(image.boxes) for image in box_set.images)
        notes = form.write(target, _Split(split, images, box_set.classes, contents[split], whole))
        lines += [f'{split}: {count(len(images), "image")}, {count(boxes, "box", "boxes")}']
        lines += [f'  note: {note}' for note in notes]
    form.finish(target, sets)
    return lines


def _of_classes(content: Mapping[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    """Return the content of a COCO file with some of its classes only."""
    kept = {category['id']: category for category in content['categories'] if category['name'] in classes}
    left = {**content, 'categories': list(kept.values())}
    if 'annotations' in content:
        left['annotations'] = [entry for entry in content['annotations'] if entry['category_id'] in kept]
    return left


def _copy(images: Sequence[_Image], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for image in images:
        shutil.copyfile(image.source, folder / image.name)


# --- formats
def _write_coco(target: Path, split: _Split) -> list[str]:
    """Write a COCO file with all that the source has, but for the names of the images."""
    _copy(split.images, target / 'images' / split.name)
    named = zip(split.content['images'], split.images, strict=True)
    entries = [{**entry, 'file_name': image.name} for entry, image in named]
    (target / 'annotations').mkdir(exist_ok=True)
    text = json.dumps({**split.content, 'images': entries})
    (target / 'annotations' / f'{split.name}.json').write_text(text, encoding='utf-8')
    return []


def _write_yolo(target: Path, split: _Split) -> list[str]:
    """Write a text file per image; labels are cut at the borders of their image, crowds have no place there."""
    _copy(split.images, target / 'images' / split.name)
    folder = target / 'labels' / split.name
    folder.mkdir(parents=True)
    why = _why_no_polygons(split.whole)
    write = _polygon_line if why is None else _box_line
    written: list[_Line] = []
    for image in split.images:
        lines = [write(box, image.boxes) for box in image.boxes.boxes if not box.crowd]
        (folder / f'{image.stem}.txt').write_text(''.join(line.text for line in lines), encoding='utf-8')
        written += lines
    boxes = [box for image in split.images for box in image.boxes.boxes]
    kept = [box for box in boxes if not box.crowd]
    crowds, cut = len(boxes) - len(kept), sum(line.cut for line in written)
    outside, other = sum(not line.text for line in written), sum(line.other for line in written)
    parts = sum(len(box.polygons) > 1 for box in kept) if why is None else 0
    kinds = ('box', 'boxes') if why is not None else ('outline', 'outlines')
    notes = (
        (cut, f'{count(cut, *kinds)} cut at the border of the image'),
        (outside, f'{count(outside, *kinds)} outside the image left out'),
        (crowds, f'{count(crowds, "crowd")} left out'),
        (parts, f'{count(parts, "outline")} of several parts, joined by lines: YOLO has one polygon for each'),
        (other, f'{count(other, "box", "boxes")} not around the outline: YOLO has only the outline'),
    )
    return [*(note for number, note in notes if number), *(_outlines(kept, why) if why is not None else [])]


def _write_voc(target: Path, split: _Split) -> list[str]:
    """Write an XML file per image, and a list of the split; crowds become difficult objects."""
    _copy(split.images, target / 'JPEGImages')
    for folder in (target / 'Annotations', target / 'ImageSets' / 'Main'):
        folder.mkdir(parents=True, exist_ok=True)
    for image in split.images:
        text = _voc_text(image, split.classes)
        (target / 'Annotations' / f'{image.stem}.xml').write_text(text, encoding='utf-8')
    names = ''.join(f'{image.stem}\n' for image in split.images)
    (target / 'ImageSets' / 'Main' / f'{split.name}.txt').write_text(names, encoding='utf-8')
    return _outlines([box for image in split.images for box in image.boxes.boxes])


def _describe(target: Path, sets: Mapping[str, BoxSet]) -> None:
    """Write data.yaml."""
    classes = next(iter(sets.values())).classes
    lines = [f'{split}: images/{split}' for split in sets] + [f'nc: {len(classes)}', f'names: {json.dumps(classes)}']
    (target / 'data.yaml').write_text('\n'.join([*lines, '']), encoding='utf-8')


def _list_classes(target: Path, sets: Mapping[str, BoxSet]) -> None:
    """Write classes.txt, as VOC itself has no place for the order of the classes."""
    names = ''.join(f'{name}\n' for name in next(iter(sets.values())).classes)
    (target / 'classes.txt').write_text(names, encoding='utf-8')


def _nothing_more(target: Path, sets: Mapping[str, BoxSet]) -> None:
    """Write nothing."""


@dataclass(frozen=True)
class Format:
    """A format.

    Attributes:
        write: Writes a split into a folder, and returns what it could not keep, in words.
        finish: Writes what all splits share.
        one_folder: Whether the images of all splits lie in one folder.
    """

    write: Callable[[Path, _Split], list[str]]
    finish: Callable[[Path, Mapping[str, BoxSet]], None] = _nothing_more
    one_folder: bool = False


COCO = Format(_write_coco)
YOLO = Format(_write_yolo, _describe)
VOC = Format(_write_voc, _list_classes, one_folder=True)


# --- lines of YOLO
@dataclass(frozen=True)
class _Line:
    """A line of YOLO.

    Attributes:
        text: The line; empty for a label outside its image.
        cut: Whether the label was cut at the border of the image.
        other: Whether the box is not the one around the outline, by more than a pixel.
    """

    text: str
    cut: bool
    other: bool = False


def _sides(box: Box) -> Sides:
    return box.left, box.top, box.left + box.width, box.top + box.height


def _cut(sides: Sides, image: BoxImage) -> Sides:
    left, top, right, bottom = sides
    return max(left, 0), max(top, 0), min(right, image.width), min(bottom, image.height)


def _box_line(box: Box, image: BoxImage) -> _Line:
    """Return the line of a box: its class, centre, width and height, as fractions of the image."""
    left, top, right, bottom = _cut(_sides(box), image)
    if left >= right or top >= bottom:
        return _Line('', cut=False)
    numbers = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
    return _Line(_text(box.label, numbers, image), cut=(left, top, right, bottom) != _sides(box))


def _polygon_line(box: Box, image: BoxImage) -> _Line:
    """Return the line of an outline: its class and its corners, as fractions of the image."""
    polygons = box.polygons
    inside = [part for points in polygons if len(part := clipped(points, image.width, image.height)) >= 6]
    if not inside:
        return _Line('', cut=False)
    xs, ys = ([value for points in polygons for value in points[start::2]] for start in (0, 1))
    around = min(xs), min(ys), max(xs), max(ys)
    far = max(abs(side - other) for side, other in zip(_sides(box), around, strict=True))
    return _Line(_text(box.label, joined(inside), image), cut=inside != polygons, other=far > 1)


def _text(label: int, pixels: Sequence[float], image: BoxImage) -> str:
    size = (image.width, image.height)
    return f'{label} {" ".join(f"{pixel / size[index % 2]:.8f}" for index, pixel in enumerate(pixels))}\n'


def _why_no_polygons(boxes: Sequence[Box]) -> str | None:
    """Return why boxes are written though some have outlines, in words; None where every label has polygons.

    YOLO has one kind of label in a data set. Rectangles that are outlines count as such beside polygons only: alone
    they are boxes.
    """
    if not any(box.segmentation is not None for box in boxes):
        return ''
    rles = sum(is_rle(box.segmentation) for box in boxes)
    without = sum(box.segmentation is None and not box.filled for box in boxes)
    of = f'of {count(len(boxes), "label")}'
    reasons = ((without, f'{without} {of} have no outline'), (rles, f'{rles} {of} have a mask of pixels'))
    return ' and '.join(reason for number, reason in reasons if number) or None


# --- texts
def _voc_text(image: _Image, classes: Sequence[str]) -> str:
    size = f'<width>{image.boxes.width}</width><height>{image.boxes.height}</height><depth>3</depth>'
    lines = ['<annotation>', f'  <filename>{escape(image.name)}</filename>', f'  <size>{size}</size>']
    for box in image.boxes.boxes:
        sides = zip(('xmin', 'ymin', 'xmax', 'ymax'), _sides(box), strict=True)
        bndbox = ''.join(f'<{side}>{value:.10g}</{side}>' for side, value in sides)
        name = f'<name>{escape(classes[box.label])}</name><difficult>{int(box.crowd)}</difficult>'
        lines.append(f'  <object>{name}<bndbox>{bndbox}</bndbox></object>')
    return '\n'.join([*lines, '</annotation>', ''])


def _outlines(boxes: Sequence[Box], why: str = '') -> list[str]:
    """Return the note that outlines are left out, and why; none where there are none."""
    number = sum(box.segmentation is not None for box in boxes)
    because = f', as {why}' if why else ''
    return [f'{count(number, "outline")} left out: the box of each is written{because}'] if number else []
