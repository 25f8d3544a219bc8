"""The entries of COCO annotation files: their types, and what makes one unfit for a training.

Loading takes much that is not COCO format, and stops or goes wrong later: at the evaluation after the first epoch, as
with numbers written as texts, or without a word, as with ``"iscrowd": "0"``, which counts as a crowd.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from emo_mm.data.outlines import are_numbers, bounds_of, fault_of_rle, is_number, is_rle, is_too_long, polygons_of
from emo_mm.errors import UserError

Entry = dict[str, Any]

# The keys that mmdet and the evaluation read.
_KEYS = {
    'images': ('id', 'file_name', 'width', 'height'),
    'categories': ('id', 'name'),
    'annotations': ('id', 'image_id', 'category_id', 'bbox', 'area', 'iscrowd'),
}
# What is called a number of an entry, where JSON has more kinds of values than COCO format.
_NUMBERS = {'images': ('id',), 'categories': ('id',), 'annotations': ('id', 'image_id', 'category_id')}
_TEXTS = {'images': ('file_name',), 'categories': ('name',), 'annotations': ()}
_FLAGS = {'images': (), 'categories': (), 'annotations': ('iscrowd', 'ignore')}
_LARGEST = 2**53  # beyond, the evaluation, which computes in float64, takes different numbers for one

# What makes an entry one that nothing can be trained on, and how it is said where there is no table to put it in.
BROKEN = {
    'image id used twice': 'every image id must be used once, but {} is used more than once',
    'annotation id used twice': 'every annotation id must be used once, but {} is used more than once',
    'undeclared category': "boxes have a category id that 'categories' does not declare: {}",
    'bbox that is no box': '{}; expected are four numbers [left, top, width, height] in pixels and a number',
    'mask that does not fit': 'masks do not fit their images: {}',
    'label that cannot be read': 'labels cannot be read: {}',
    'image without a size': 'width and height of an image must be numbers above 0: {}',
}
# Told, but used for training as it is: photographs cut the objects at their borders, and so should boxes.
HARMLESS = ('box that reaches beyond its image',)


@dataclass(frozen=True)
class EntryFault:
    """An entry of an annotation file that cannot be trained on, or that mmdet leaves out.

    Attributes:
        kind: What is wrong.
        entries: The list that it is in, ``images`` or ``annotations``.
        index: Its index there.
        image: File name of its image.
        detail: The faulty value.
    """

    kind: str
    entries: str
    index: int
    image: str
    detail: str

    @property
    def broken(self) -> bool:
        """Whether mmdet would stop at it or mix it up, where it leaves out an empty box without a word."""
        return self.kind in BROKEN


class Box(NamedTuple):
    """What an annotation is to a training.

    Attributes:
        use: ``trained``; ``crowd``, which no detector is trained on; ``unusable``, which mmdet leaves out; ``broken``;
            ``orphan`` where its image is not in the file.
        image: Index of its image; None for an orphan.
        name: Its class; '' for one that is not declared.
        fault: What is wrong with it.
    """

    use: Literal['trained', 'crowd', 'unusable', 'broken', 'orphan']
    image: int | None
    name: str
    fault: EntryFault | None


def entries_of(path: Path, content: Mapping[str, Any], what: str) -> list[Entry]:
    """Return a list of an annotation file, each entry an object that has all keys needed, of the right types.

    Args:
        path: The file, for messages.
        content: What it holds.
        what: ``images``, ``categories`` or ``annotations``.

    Raises:
        UserError: If there is no such list, or an entry is not as it must be; the message names it.
    """
    entries = content.get(what)
    if not isinstance(entries, list):
        raise UserError(f"{path}: has no list '{what}', so it is no COCO annotation file")
    for entry in entries:
        if not isinstance(entry, dict):
            raise UserError(f"{path}: '{what}' holds {str(entry)[:40]!r} where an object is expected")
    missing = Counter(key for entry in entries for key in _KEYS[what] if key not in entry)
    if missing:
        lacking = ', '.join(f"'{key}' ({number} of {len(entries)})" for key, number in missing.items())
        hint = '; area may be width x height of the box, iscrowd 0' if {'area', 'iscrowd'} & missing.keys() else ''
        raise UserError(f"{path}: entries of '{what}' lack {lacking}{hint}")
    _check_types(path, what, entries)
    return entries


def _check_types(path: Path, what: str, entries: list[Entry]) -> None:
    rules = [(key, _is_whole, 'a whole number') for key in _NUMBERS[what]]
    rules += [(key, _is_name, 'a text that is not empty') for key in _TEXTS[what]]
    rules += [(key, _is_flag, '0 or 1') for key in _FLAGS[what]]
    for index, entry in enumerate(entries):
        for key, fits, expected in rules:
            if key in entry and not fits(entry[key]):
                value = repr(entry[key])[:80]
                raise UserError(f'{path}: {what}[{index}] has {key} {value}; it must be {expected}')


def _is_whole(value: Any) -> bool:
    if isinstance(value, float):
        return value.is_integer() and abs(value) < _LARGEST
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST


def _is_name(value: Any) -> bool:
    # half a character, as JSON may hold by its escapes, and NUL are in no name of a file
    return (
        isinstance(value, str)
        and value != ''
        and '\0' not in value
        and not any('\ud800' <= c <= '\udfff' for c in value)
    )


def _is_flag(value: Any) -> bool:
    return isinstance(value, (bool, int, float)) and value in (0, 1)


def faulty_images(images: list[Entry]) -> list[EntryFault]:
    """Return the images that have no size, and those that share an id."""
    faults = [
        EntryFault(
            'image without a size', 'images', index, image['file_name'], '{width!r} x {height!r}'.format(**image)
        )
        for index, image in enumerate(images)
        if not all(is_number(image[key]) and image[key] > 0 for key in ('width', 'height'))
    ]
    same_id: dict[Any, list[int]] = {}
    for index, image in enumerate(images):
        same_id.setdefault(image['id'], []).append(index)
    for same in same_id.values():
        # Where the entries agree one may stay. Where they differ nobody knows whose boxes are whose.
        agree = all(images[index] == images[same[0]] for index in same)
        for index in same[1:] if agree else same:
            image = images[index]
            faults.append(
                EntryFault('image id used twice', 'images', index, image['file_name'], f'image {image["id"]}')
            )
    return faults


def boxes_of(
    annotations: list[Entry], images: list[Entry], name_of: Mapping[Any, str], masks: bool = False
) -> list[Box]:
    """Return what each annotation is to a training.

    Args:
        annotations: The annotations.
        images: The images of the file.
        name_of: The classes by their ids.
        masks: Whether masks are trained on, so that each annotation has an outline, which must fit its image.
    """
    image_of = _first_of_id(images)  # an id that two images share tells nothing; the first one stands for both
    first_of = _first_of_id(annotations)
    boxes = []
    for position, entry in enumerate(annotations):
        index = image_of.get(entry['image_id'])
        image = None if index is None else images[index]
        again = first_of[entry['id']] != position
        outlined = image if masks and 'source_fault' not in entry else None
        of_mask = fault_of_mask(entry, outlined) if outlined is not None else None
        place = fault_of_outline(entry, outlined) if outlined is not None else None
        kind, detail = of_mask or _fault(entry, image, again, name_of) or place or ('', '')
        fault = None
        if kind:
            file_name = '' if image is None else image['file_name']
            fault = EntryFault(kind, 'annotations', position, file_name, f'{called(entry)}{detail}')
        boxes.append(Box(_use(entry, image, kind), index, name_of.get(entry['category_id'], ''), fault))
    return boxes


def called(entry: Entry) -> str:
    """Return what an annotation is called: where it was read if another format was converted, else its id."""
    return entry.get('source') or f'annotation {entry["id"]}'


def _first_of_id(entries: list[Entry]) -> dict[Any, int]:
    """Return the index of the first entry of each id."""
    return {entry['id']: index for index, entry in reversed(list(enumerate(entries)))}


def _use(entry: Entry, image: Entry | None, kind: str) -> Literal['trained', 'crowd', 'unusable', 'broken', 'orphan']:
    if image is None:
        return 'orphan'
    if kind in BROKEN:
        return 'broken'
    if (kind and kind not in HARMLESS) or entry.get('ignore', False):
        return 'unusable'
    return 'crowd' if entry['iscrowd'] else 'trained'


def _fault(entry: Entry, image: Entry | None, again: bool, name_of: Mapping[Any, str]) -> tuple[str, str] | None:
    """Return what is wrong with an annotation, and its value; ``again`` where its id was used before."""
    if again:
        return 'annotation id used twice', ''
    if image is None:
        return None
    return _fault_of_values(entry, name_of) or _fault_of_place(entry['bbox'], image)


def _fault_of_values(entry: Entry, name_of: Mapping[Any, str]) -> tuple[str, str] | None:
    """Return what is wrong with an annotation by itself, and its value."""
    if 'source_fault' in entry:
        return 'label that cannot be read', f': {entry["source_fault"]}'
    category, bbox, area = entry['category_id'], entry['bbox'], entry['area']
    if category not in name_of:
        return 'undeclared category', f': category {category}'
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(map(is_number, (*bbox, area))):
        return 'bbox that is no box', f' has bbox {bbox!r} and area {area!r}'
    if not (bbox[2] >= 1 and bbox[3] >= 1 and area > 0):
        return 'box of no area', f': bbox {bbox}, area {area}'
    return None


def fault_of_mask(entry: Entry, image: Entry) -> tuple[str, str] | None:
    """Return what is wrong with the mask of an annotation, and its value."""
    mask = entry.get('segmentation')
    if isinstance(mask, dict) and is_rle(mask):
        fault = fault_of_rle(mask, image['width'], image['height'])
        return ('mask that does not fit', f' has {fault}') if fault else None
    polygons = mask if isinstance(mask, list) else []
    if polygons and all(isinstance(one, list) and one and are_numbers(one) for one in polygons):
        if polygons_of(polygons):
            return None  # mmdet leaves out the other polygons
        return 'mask of less than three points', f' has segmentation {str(mask)[:60]}'
    return 'annotation without a mask', f' has segmentation {str(mask)[:60]}'


def fault_of_outline(entry: Entry, image: Entry) -> tuple[str, str] | None:
    """Return why the polygons of an annotation cannot be drawn into its image, and their value."""
    polygons = polygons_of(entry.get('segmentation'))
    bounds = bounds_of(polygons)
    if bounds is None or not (is_number(image['width']) and is_number(image['height'])):
        return None
    if any(map(is_too_long, polygons)):
        return 'mask that does not fit', f' has an outline of {max(map(len, polygons)) // 2} corners too long to draw'
    left, top, width, height = bounds
    if left + width > 0 and left < image['width'] and top + height > 0 and top < image['height']:
        return None
    place = [round(value, 1) for value in bounds]
    return 'mask that does not fit', f' has an outline at {place}, outside {image["width"]}x{image["height"]}'


def _fault_of_place(bbox: list[float], image: Entry) -> tuple[str, str] | None:
    """Return how a box lies where its image does not, and both."""
    width, height = image['width'], image['height']
    if not (is_number(width) and is_number(height)):
        return None  # a fault of the image
    left, top, right, bottom = bbox[0], bbox[1], bbox[0] + bbox[2], bbox[1] + bbox[3]
    if min(right, width) <= max(left, 0) or min(bottom, height) <= max(top, 0):
        kind = 'box outside its image'
    elif min(left, top) < -1 or right > width + 1 or bottom > height + 1:
        kind = HARMLESS[0]
    else:
        return None
    return kind, f': bbox {bbox} of {width}x{height}'
