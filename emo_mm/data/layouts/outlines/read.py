"""What the annotations of a split are to a segmentation: outlines to draw, or faults."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from emo_mm.data.layouts.coco.entries import Entry, fault_of_mask, faulty_images
from emo_mm.data.layouts.masks.pixels import IGNORED
from emo_mm.data.layouts.outlines.classes import OutlineNames
from emo_mm.data.layouts.outlines.drawing import Shape
from emo_mm.data.outlines import MOST_PIXELS, Segmentation, corners, is_number, is_too_long, polygons_of
from emo_mm.data.splits import count, shortlist

# Kinds of faults, in the words by which they are counted, and how they are said of a number of annotations. None of
# them speaks of an image or a mask, as the check of the content does.
FAULTS = {
    'box without an outline': 'have a box but no outline',
    'outline of less than three points': 'have an outline of less than three points',
    'outline that does not fit': 'have an RLE that does not fit their image',
    'outline beyond the borders': 'have an outline that lies outside their image',
    'outline too long to draw': 'have an outline too long to draw',
    'undeclared category': "have a category that 'categories' does not declare",
    'label that cannot be read': 'cannot be read',
    'size that cannot be drawn': 'are of images whose size cannot be drawn',
    'id used twice': 'are of an image id that is used twice',
}
_OF_MASKS = {  # what the check for recipes with masks calls them
    'annotation without a mask': 'box without an outline',
    'mask of less than three points': 'outline of less than three points',
    'mask that does not fit': 'outline that does not fit',
}


@dataclass
class Annotations:
    """What was found in the annotations of a split.

    Attributes:
        total: How many there are, with those of images that are not listed.
        outlines: Number of outlines of each class that is drawn.
        untrained: Number of outlines of each class that is not trained.
        crowds: Number of crowds.
        rectangles: Number of outlines that are rectangles.
        thin: Number of outlines that are less than a pixel wide or high.
        orphans: Number of annotations of images that are not listed.
        shapes: What is drawn into each image, by its index.
        faults: What is wrong with each image: kinds, and what exactly.
    """

    total: int = 0
    outlines: Counter[str] = field(default_factory=Counter)
    untrained: Counter[str] = field(default_factory=Counter)
    crowds: int = 0
    rectangles: int = 0
    thin: int = 0
    orphans: int = 0
    shapes: dict[int, list[Shape]] = field(default_factory=dict)
    faults: dict[int, list[tuple[str, str]]] = field(default_factory=dict)

    def number(self, kind: str) -> int:
        """Return how many faults of a kind there are."""
        return sum(found == kind for faults in self.faults.values() for found, _ in faults)

    def notes(self, names: OutlineNames, images: tuple[str, ...]) -> Iterator[str]:
        """Yield what a user should know of them.

        Args:
            names: The classes.
            images: The images, by their index.
        """
        empty = [image for index, image in enumerate(images) if index not in {*self.shapes, *self.faults}]
        lost = FAULTS['box without an outline']
        missing = [name for name in names.labels if 0 < names.labels[name] < IGNORED and not self.outlines[name]]
        untrained = ', '.join(f'{name} ({count(number, "outline")})' for name, number in self.untrained.items())
        crowds, all_crowds = count(self.crowds, 'crowd'), 'every outline is marked iscrowd, as masks of CVAT are'
        rows = (
            (empty, f'{count(len(empty), "image")} without an outline, taken as background: {shortlist(empty, 3)}'),
            (self.number('box without an outline'), f'{self.number("box without an outline")} of {self.total} {lost}'),
            (missing, f'no outline of {shortlist(missing)}'),
            (untrained, f'not trained, taken as background: {untrained}'),
            (self.crowds and not names.crowds, f'{crowds} ignored (label {IGNORED})'),
            (self.crowds and names.crowds, f'{all_crowds}: they are read as objects'),
            (self.rectangles, f'{count(self.rectangles, "rectangle")} taken as outlines'),
            (self.thin, f'{count(self.thin, "outline")} less than a pixel wide or high'),
            (self.orphans, f'{count(self.orphans, "annotation")} of images not listed'),
        )
        yield from (note for holds, note in rows if holds)


def read_outlines(content: Mapping[str, Any], names: OutlineNames) -> Annotations:
    """Return what the annotations of a COCO file are to a segmentation.

    Args:
        content: The content of the file, repaired.
        names: The classes.
    """
    images, annotations = content['images'], content.get('annotations', [])
    found = Annotations(total=len(annotations), faults=_faults_of_images(images))
    index_of = _first_of_id(images)
    name_of = {category['id']: category['name'] for category in content['categories']}
    for entry in annotations:
        index = index_of.get(entry['image_id'])
        if index is None:
            found.orphans += 1
        elif (fault := _fault(entry, images[index], name_of)) is not None:
            called = entry.get('source') or f'annotation {entry["id"]}'
            found.faults.setdefault(index, []).append((fault[0], f'{called}{fault[1]}'))
        else:
            _take(found, index, entry, name_of[entry['category_id']], names)
    return found


def _first_of_id(images: Sequence[Entry]) -> dict[Any, int]:
    return {image['id']: index for index, image in reversed(list(enumerate(images)))}


def _faults_of_images(images: list[Entry]) -> dict[int, list[tuple[str, str]]]:
    """Return the images that cannot be drawn, or of which nobody knows whose outlines they have."""
    first = _first_of_id(images)
    faults = {
        index: [('size that cannot be drawn', '{width!r} x {height!r}'.format(**image))]
        for index, image in enumerate(images)
        if not _is_size(image)
    }
    for fault in faulty_images(images):
        same = images[first[images[fault.index]['id']]]
        if fault.kind == 'image id used twice' and images[fault.index] != same:
            faults.setdefault(first[same['id']], []).append(('id used twice', fault.detail))
            faults.setdefault(fault.index, []).append(('id used twice', fault.detail))
    return faults


def _is_size(image: Entry) -> bool:
    """Tell whether the size of an image is a number of pixels, and not too large to be drawn."""
    width, height = image['width'], image['height']
    known = is_number(width) and is_number(height) and width > 0 and height > 0
    return known and width == int(width) and height == int(height) and width * height <= MOST_PIXELS


def _take(found: Annotations, index: int, entry: Entry, name: str, names: OutlineNames) -> None:
    """Count an annotation without a fault, and take its outline if its class is drawn."""
    crowd = bool(entry['iscrowd'] or entry.get('ignore'))
    found.crowds += crowd
    crowd = crowd and not names.crowds
    if name not in names.labels:
        found.untrained[name] += 1
        return
    outline = _outline(entry)
    found.rectangles += outline is not entry.get('segmentation')
    found.thin += _is_thin(outline)
    if not crowd:
        found.outlines[name] += 1
    found.shapes.setdefault(index, []).append(Shape(IGNORED if crowd else names.labels[name], outline, crowd))


def _outline(entry: Entry) -> Segmentation:
    """Return the outline of an annotation without a fault."""
    if entry.get('filled') and not entry.get('segmentation'):
        left, top, width, height = entry['bbox']
        return [corners(left, top, left + width, top + height)]
    outline: Segmentation = entry['segmentation']
    return outline


def _fault(entry: Entry, image: Entry, name_of: Mapping[Any, str]) -> tuple[str, str] | None:
    """Return what keeps an annotation from being drawn: the kind, and what exactly."""
    if 'source_fault' in entry:
        return 'label that cannot be read', f': {entry["source_fault"]}'
    if entry['category_id'] not in name_of:
        return 'undeclared category', f': category {entry["category_id"]}'
    if not (entry.get('filled') and not entry.get('segmentation')):
        fault = fault_of_mask(entry, image)
        if fault is not None:
            return _OF_MASKS[fault[0]], fault[1]
    return _fault_of_place(_outline(entry), image)


def _fault_of_place(outline: Segmentation, image: Entry) -> tuple[str, str] | None:
    polygons = polygons_of(outline)
    if any(map(is_too_long, polygons)):
        return 'outline too long to draw', f' has an outline of {max(map(len, polygons)) // 2} corners'
    xs, ys = ([value for points in polygons for value in points[start::2]] for start in (0, 1))
    if not polygons or (max(xs) > 0 and min(xs) < image['width'] and max(ys) > 0 and min(ys) < image['height']):
        return None
    place = [round(value, 1) for value in (min(xs), min(ys), max(xs), max(ys))]
    return 'outline beyond the borders', f': from {place[:2]} to {place[2:]} in {image["width"]}x{image["height"]}'


def _is_thin(outline: Segmentation) -> bool:
    polygons = polygons_of(outline)
    spans = [max(points[start::2]) - min(points[start::2]) for points in polygons for start in (0, 1)]
    return bool(spans) and all(min(spans[at : at + 2]) < 1 for at in range(0, len(spans), 2))
