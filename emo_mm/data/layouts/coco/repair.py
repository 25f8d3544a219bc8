"""What annotation files have otherwise than COCO format, where it is plain what was meant: read as if it were right.

Each rule is a function from what a file holds to the same with the oddity repaired. Nothing here writes or looks at
other files; what cannot be repaired is left for the checks of ``entries`` to refuse.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from emo_mm.data.layouts.coco.entries import Entry, is_number
from emo_mm.data.outlines import bounds_of, is_rle, polygons_of
from emo_mm.data.splits import count, shortlist

Content = dict[str, Any]


@dataclass(frozen=True)
class Repaired:
    """What an annotation file holds, repaired.

    Attributes:
        content: The object that the file should have held; the very object where nothing was repaired.
        notes: What was repaired, in words; empty if nothing was.
    """

    content: Content
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Rule:
    """A repair of single entries.

    Attributes:
        entries: The list that they are in.
        change: Returns the keys of an entry that change, with their new values; nothing for one that is right.
        note: What was done, in words; ``{}`` stands for the number of entries.
        only_masks: Whether it matters only where masks are trained on.
    """

    entries: str
    change: Callable[[Entry], Entry]
    note: str
    only_masks: bool = False


def repair(content: Content, masks: bool = False) -> Repaired:
    """Repair what an annotation file holds.

    Args:
        content: What it holds; it stays as it is.
        masks: Whether masks are trained on, so that they are repaired too.
    """
    notes: list[str] = []
    for step in (_number_ids, _drop_repeated, _number_annotations, _drop_double_categories):
        content, note = step(content)
        notes += [note] if note else []
    for rule in _RULES:
        if masks or not rule.only_masks:
            content, note = _apply(rule, content)
            notes += [note] if note else []
    return Repaired(content, tuple(notes))


def ordered(content: Content, classes: Iterable[str]) -> Content:
    """Return what a file holds with its categories in the order of some classes; a class that it lacks is added.

    mmdet numbers the labels in the order of the list, whatever the ids.
    """
    own = {category['name']: category for category in content['categories']}
    free = 1 + max((int(category['id']) for category in content['categories']), default=0)
    first = []
    for name in classes:
        first.append(own.pop(name, None) or {'id': free, 'name': name})
        free += 1
    return {**content, 'categories': [*first, *own.values()]}


# --- single entries
def _apply(rule: _Rule, content: Content) -> tuple[Content, str]:
    entries = _entries(content, rule.entries)
    changes = [rule.change(entry) for entry in entries]
    changed = sum(map(bool, changes))
    if not changed:
        return content, ''
    new = [{**entry, **change} if change else entry for entry, change in zip(entries, changes, strict=True)]
    return {**content, rule.entries: new}, rule.note.format(count(changed, rule.entries.removesuffix('s')))


def _numbers(*keys: str) -> Callable[[Entry], Entry]:
    """Return a change of numbers that are written as texts to numbers."""

    def change(entry: Entry) -> Entry:
        changed = {}
        for key in keys:
            value = entry.get(key)
            if isinstance(value, str) or (isinstance(value, list) and any(isinstance(one, str) for one in value)):
                numbers = [_number(one) for one in (value if isinstance(value, list) else [value])]
                if None not in numbers:
                    changed[key] = numbers if isinstance(value, list) else numbers[0]
        return changed

    return change


def _number(value: Any) -> float | int | None:
    if not isinstance(value, str):
        return value if is_number(value) else None
    for kind in (int, float):
        try:
            number = kind(value)
        except ValueError:
            continue
        return number if is_number(number) else None
    return None


def _flags(entry: Entry) -> Entry:
    missing = {} if entry.get('iscrowd') is not None else {'iscrowd': 0}
    return {**missing, 'ignore': 0} if 'ignore' in entry and entry['ignore'] is None else missing


def _bbox(entry: Entry) -> Entry:
    bounds = None if entry.get('bbox') else bounds_of(polygons_of(entry.get('segmentation')))
    return {'bbox': bounds} if bounds else {}


def _bbox_of_runs(entry: Entry) -> Entry:
    outline = entry.get('segmentation')
    bounds = bounds_of(outline) if is_rle(outline) and not entry.get('bbox') else None
    return {'bbox': bounds} if bounds else {}


def _area(entry: Entry) -> Entry:
    area, bbox = entry.get('area'), entry.get('bbox')
    unknown = area is None or (is_number(area) and area <= 0)
    if not (unknown and isinstance(bbox, list) and len(bbox) == 4 and all(map(is_number, bbox))):
        return {}
    # a box of no area is a fault of its own
    return {'area': bbox[2] * bbox[3]} if area is None or (bbox[2] >= 1 and bbox[3] >= 1) else {}


def _polygons(entry: Entry) -> Entry:
    flat = entry.get('segmentation')
    if isinstance(flat, list) and len(flat) >= 6 and len(flat) % 2 == 0 and all(map(is_number, flat)):
        return {'segmentation': [flat]}
    return {}


_RULES = (
    _Rule('images', _numbers('width', 'height'), '{} with numbers written as texts'),
    _Rule('annotations', _numbers('bbox', 'area', 'iscrowd', 'ignore'), '{} with numbers written as texts'),
    _Rule('annotations', _flags, '{} without iscrowd, taken as 0'),
    _Rule('annotations', _polygons, '{} with the polygon as a flat list, taken as one polygon', only_masks=True),
    _Rule('annotations', _bbox, '{} without a bbox, taken as the one around its polygons'),
    _Rule('annotations', _bbox_of_runs, '{} without a bbox, taken as the one around its mask', only_masks=True),
    _Rule('annotations', _area, '{} without an area, taken as width x height of the box'),
)


# --- ids
def _number_ids(content: Content) -> tuple[Content, str]:
    """Turn ids of images and categories that are texts into numbers, and what refers to them."""
    repaired = []
    for what, key in (('images', 'image_id'), ('categories', 'category_id')):
        entries, boxes = _entries(content, what), _entries(content, 'annotations')
        ids, referred = [entry.get('id') for entry in entries], [box.get(key) for box in boxes]
        if not any(isinstance(one, str) for one in (*ids, *referred)) or not all(map(_is_id, ids)):
            continue
        numbers = _numbering(ids)
        content = {**content, what: [{**one, 'id': numbers[str(one['id'])]} for one in entries]}
        if boxes:
            found = [numbers.get(str(one)) for one in referred]
            content['annotations'] = [
                box if number is None else {**box, key: number} for box, number in zip(boxes, found, strict=True)
            ]
        repaired.append(what)
    return content, f'ids of {" and ".join(repaired)} written as texts, read as numbers' if repaired else ''


def _is_id(value: Any) -> bool:
    return isinstance(value, (str, int)) and not isinstance(value, bool)


def _numbering(ids: list[Any]) -> dict[str, int]:
    """Return a number for each id: itself where all are numbers, else its position."""
    texts = list(dict.fromkeys(map(str, ids)))
    if all(text.isdecimal() and text.isascii() and len(text) < 16 for text in texts):
        numbers = {text: int(text) for text in texts}
        if len(set(numbers.values())) == len(texts):  # '1' and '01' are two ids
            return numbers
    return {text: number for number, text in enumerate(texts, 1)}


def _drop_repeated(content: Content) -> tuple[Content, str]:
    """Leave out annotations that are listed again, word for word."""
    boxes = _entries(content, 'annotations')
    seen: dict[Any, list[Entry]] = {}
    kept = []
    for box in boxes:
        # one that has no id, or none that can be looked up, is not compared
        same = seen.setdefault(box['id'], []) if _is_id(box.get('id')) else []
        if box not in same:
            kept.append(box)
        same.append(box)
    left_out = len(boxes) - len(kept)
    return (
        ({**content, 'annotations': kept}, f'{count(left_out, "annotation")} listed twice, read once')
        if left_out
        else (content, '')
    )


def _number_annotations(content: Content) -> tuple[Content, str]:
    """Number the annotations anew where their ids are missing, texts, or used twice; nothing refers to them."""
    boxes = _entries(content, 'annotations')
    ids = [box.get('id') for box in boxes]
    if not all(one is None or _is_id(one) or isinstance(one, float) for one in ids):
        return content, ''
    if all(is_number(one) for one in ids) and len(set(ids)) == len(ids):
        return content, ''
    content = {**content, 'annotations': [{**box, 'id': number} for number, box in enumerate(boxes, 1)]}
    return content, 'annotation ids that are missing, texts or used more than once: numbered from 1'


# --- categories
def _drop_double_categories(content: Content) -> tuple[Content, str]:
    """Leave out a category without boxes that is named as another, as Roboflow's group may be as its class."""
    categories = _entries(content, 'categories')
    names = Counter(str(category.get('name')) for category in categories)
    double = [name for name, times in names.items() if times > 1]
    if not double:
        return content, ''
    used = {str(box.get('category_id')) for box in _entries(content, 'annotations')}
    kept = list(categories)
    for name in double:
        same = [category for category in categories if str(category.get('name')) == name]
        with_boxes = [category for category in same if str(category.get('id')) in used] or same[-1:]
        kept = [category for category in kept if category not in same or category in with_boxes]
    if len(kept) == len(categories):
        return content, ''
    return {**content, 'categories': kept}, f'two categories named {shortlist(double)}: the one without boxes left out'


def _entries(content: Content, what: str) -> list[Entry]:
    """Return a list of the file; an empty one where it is no list of objects, which is refused later."""
    entries = content.get(what)
    right = isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries)
    return entries if right else []  # type: ignore[return-value]
