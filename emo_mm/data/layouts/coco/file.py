"""COCO annotation files: what one holds, as far as a training would see it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emo_mm.data.layouts.base import LayoutError
from emo_mm.data.layouts.coco.entries import BROKEN, Box, Entry, EntryFault, boxes_of, entries_of, faulty_images
from emo_mm.data.layouts.coco.outlined import Outlined, outlined, with_outlines
from emo_mm.data.layouts.coco.repair import Repaired, repair
from emo_mm.data.layouts.coco.units import check_units
from emo_mm.data.splits import count, shortlist
from emo_mm.errors import UserError
from emo_mm.tasks import TASKS


@dataclass(frozen=True)
class CocoFile:
    """What one annotation file holds.

    Attributes:
        path: The file.
        classes: Category names **in the order of the file**. mmdet numbers the labels in that order, whatever the ids.
        supercategories: The group of each category ('' if none), in the same order.
        images: File name of each image.
        sizes: Width and height that it gives for each image.
        boxes: Number of usable boxes per class name. Usable is what mmdet's ``CocoDataset`` keeps: at least one pixel
            wide and high, area above 0, touching the image, marked neither ``ignore`` nor ``iscrowd``.
        uses: Number of annotations by what they are to a training (``Box.use``).
        annotated: Whether the file has annotations at all; lists for a test server have none.
        annotations: How many it has, usable or not.
        masks: Whether masks are trained on, so that only objects with an outline count; then they are the annotations.
        bare: How many objects are left out as they have no outline.
        faults: Single entries that cannot be used.
        without_boxes: Indices of the images that have no usable box and no crowd.
        listed: Classes of all annotations of each image, usable or not.
        repairs: What was read otherwise than it is written, in words; empty if the toolbox can read the file itself.
        places: A row for each usable box: left, top, width and height in pixels, indices of its image and its class.
    """

    path: Path
    classes: tuple[str, ...]
    supercategories: tuple[str, ...]
    images: tuple[str, ...]
    sizes: tuple[tuple[Any, Any], ...]
    boxes: dict[str, int]
    uses: Counter[str]
    annotated: bool
    annotations: int
    masks: bool
    bare: int
    faults: tuple[EntryFault, ...]
    without_boxes: tuple[int, ...]
    listed: tuple[frozenset[str], ...]
    repairs: tuple[str, ...]
    places: NDArray[np.float64] = field(compare=False, repr=False)


def read_annotations(path: Path, tolerant: bool = False, masks: bool = False) -> CocoFile:
    """Return what an annotation file holds, repaired and checked; an unchanged file is parsed once per process.

    Args:
        path: The file.
        tolerant: Whether faults of single entries are left to who looks at ``CocoFile.faults``.
        masks: Whether the masks of the objects are trained on too: they are checked, and objects without are left out.

    Raises:
        UserError: If the file cannot be read, or mmdet could not train or evaluate with it; the message names the
            fault.
    """
    try:
        stat = path.stat()
    except OSError as error:
        raise UserError(f'{path}: no such annotation file') from error
    if not path.is_file():
        raise UserError(f'{path}: is a folder; an annotation file (.json) is expected')
    file = _read(path, stat.st_mtime_ns, stat.st_size, masks)
    if not tolerant:
        require_sound(file)
    return file


def require_sound(file: CocoFile) -> None:
    """Check that mmdet could train and evaluate with every entry of a file.

    Raises:
        UserError: If not; the message names the fault.
    """
    path = file.path
    broken = [fault for fault in file.faults if fault.broken]
    if broken:
        same = [fault.detail for fault in broken if fault.kind == broken[0].kind]
        text = BROKEN[broken[0].kind].format(shortlist(dict.fromkeys(same), 5))
        raise UserError(f'{path}: {len(same)} {text}' if text.startswith('boxes') else f'{path}: {text}')


def parse_annotations(path: Path) -> dict[str, Any]:
    """Return the object that an annotation file holds, as it is written.

    Raises:
        UserError: If the file cannot be read, or is no such file.
    """
    return _parse(path)[0]


def repaired_annotations(path: Path, masks: bool) -> Repaired:
    """Return the object that an annotation file holds, repaired; objects without an outline are still there.

    Args:
        path: The file.
        masks: Whether outlines are repaired too.

    Raises:
        UserError: As ``parse_annotations`` does.
    """
    content, encoding = _parse(path)
    repaired = repair(content, masks)
    notes = () if encoding == 'utf-8' else (f'the file is written as {encoding}',)
    return Repaired(repaired.content, (*notes, *repaired.notes))


def trained_annotations(path: Path, masks: bool) -> Repaired:
    """Return the object that an annotation file holds, repaired, as far as it is trained on.

    Args:
        path: The file.
        masks: Whether masks are trained on, so that objects without an outline are left out.

    Raises:
        UserError: As ``parse_annotations`` does.
    """
    repaired = repaired_annotations(path, masks)
    return Repaired(with_outlines(repaired.content), repaired.notes) if masks else repaired


def _parse(path: Path) -> tuple[dict[str, Any], str]:
    """Return what a file holds, and the encoding of its text: the toolbox reads UTF-8 without a byte order mark."""
    try:
        text = path.read_bytes()
        encoding = json.detect_encoding(text)
        content = json.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'{path}: cannot be read ({error})') from error
    except RecursionError:
        raise UserError(f'{path}: is nested too deep for an annotation file') from None
    except ValueError as error:  # JSONDecodeError, and numbers of thousands of digits
        raise UserError(f'{path}: is not valid JSON ({error}); the file may be cut off') from error
    if not isinstance(content, dict):
        raise UserError(f'{path}: holds a {type(content).__name__}, not the object of a COCO annotation file')
    return content, _ENCODINGS.get(encoding, encoding)


_ENCODINGS = {'utf-8-sig': 'UTF-8 with a byte order mark'}


@lru_cache(maxsize=8)
def _read(path: Path, _mtime: int, _size: int, masks: bool) -> CocoFile:
    repaired = repaired_annotations(path, masks)
    return file_of(path, repaired.content, repaired.notes, masks)


def file_of(path: Path, content: dict[str, Any], repairs: tuple[str, ...] = (), masks: bool = False) -> CocoFile:
    """Return what an annotation file holds, or will hold.

    Args:
        path: The file, for messages.
        content: Its content.
        repairs: How the content differs from what is written in the file.
        masks: Whether masks are trained on.

    Raises:
        UserError: If it is no such file.
    """
    images = entries_of(path, content, 'images')
    if not images:
        raise UserError(f'{path}: lists no images')
    categories = entries_of(path, content, 'categories')
    if not categories:
        raise UserError(f"{path}: lists no categories; COCO format names each class in 'categories'")
    annotated = 'annotations' in content
    annotations = entries_of(path, content, 'annotations') if annotated else []
    _all_differ(path, 'category id', [category['id'] for category in categories])
    _all_differ(path, 'category name', [category['name'] for category in categories])

    check_units(path, images, annotations)

    left = outlined(annotations) if masks else Outlined(annotations)
    annotations = left.annotations
    name_of = {category['id']: category['name'] for category in categories}
    boxes = boxes_of(annotations, images, name_of, masks)
    kept = {box.image for box in boxes if box.use in ('trained', 'crowd')}  # mmdet keeps the image of a crowd
    trained = Counter(box.name for box in boxes if box.use == 'trained')
    return CocoFile(
        path=path,
        classes=tuple(name_of.values()),
        supercategories=tuple(str(category.get('supercategory') or '') for category in categories),
        images=tuple(image['file_name'] for image in images),
        sizes=tuple((image['width'], image['height']) for image in images),
        boxes={name: trained[name] for name in name_of.values()},
        uses=Counter(box.use for box in boxes),
        annotated=annotated,
        annotations=len(annotations),
        masks=masks,
        bare=left.bare,
        faults=(*faulty_images(images), *(box.fault for box in boxes if box.fault is not None)),
        without_boxes=tuple(index for index in range(len(images)) if index not in kept),
        listed=_listed(boxes, len(images)),
        repairs=(*repairs, *left.notes),
        places=_places(annotations, boxes, list(name_of.values())),
    )


def _places(annotations: list[Entry], boxes: Sequence[Box], names: list[str]) -> NDArray[np.float64]:
    """Return where the usable boxes are, in a row each."""
    index = {name: number for number, name in enumerate(names)}
    rows = [
        (*entry['bbox'], box.image, index[box.name])
        for entry, box in zip(annotations, boxes, strict=True)
        if box.use == 'trained'
    ]
    return np.array(rows, dtype=np.float64).reshape(-1, 6)


def _listed(boxes: Sequence[Box], images: int) -> tuple[frozenset[str], ...]:
    """Return the declared classes of all boxes of each image."""
    names: list[set[str]] = [set() for _ in range(images)]
    for box in boxes:
        if box.image is not None and box.name:
            names[box.image].add(box.name)
    return tuple(map(frozenset, names))


def _all_differ(path: Path, what: str, values: Sequence[Any]) -> None:
    repeated = [value for value, times in Counter(values).items() if times > 1]
    if repeated:
        raise UserError(f'{path}: every {what} must be used once, but {shortlist(repeated, 5)} is used more than once')


def count_boxes(file: CocoFile, classes: Sequence[str], required: bool) -> int:
    """Return the number of usable boxes of some classes.

    Raises:
        UserError: If there is none though boxes are required, or there are boxes only where masks are trained on.
    """
    if file.bare and not file.annotations:
        raise LayoutError(
            f'{file.path}: its annotations have boxes only: none of {count(file.bare, "object")} has an outline',
            f'masks are learned from polygons or RLE; a detector such as {TASKS["det"].demo} trains on boxes',
            'emo-mm list --task det',
        )
    boxes = sum(file.boxes.get(name, 0) for name in classes)
    if required and not boxes:
        uses = file.uses
        why = f', {uses["unusable"]} that are empty or outside their image' if uses['unusable'] else ''
        if uses['crowd']:
            why += (
                f', {uses["crowd"]} marked iscrowd=1, a crowd that is not trained on (CVAT marks masks so: '
                'export them as polygons, or set iscrowd to 0 where each is one object)'
            )
        why += f', {uses["orphan"]} of images that it does not list' if uses['orphan'] else ''
        why += f', {file.bare} without an outline' if file.bare else ''
        raise UserError(f'{file.path}: holds no usable {one_of(file)} of the classes {shortlist(classes)}{why}')
    return boxes


def oddities(file: CocoFile, classes: Sequence[str]) -> tuple[str, ...]:
    """Return what a user should know of a file that can be trained on all the same."""

    def boxes(number: int) -> str:
        return counted(file, number)

    left_out = [name for name in file.classes if name not in classes]
    empty = [name for name in classes if not file.boxes.get(name)] if file.annotated else []
    unusable, crowds, orphans = (file.uses[use] for use in ('unusable', 'crowd', 'orphan'))
    notes = (
        (left_out, f'not trained: {shortlist(left_out)} ({boxes(sum(file.boxes[name] for name in left_out))})'),
        (unusable, f'{boxes(unusable)} left out: empty, outside the image or marked ignore'),
        (crowds, f'{boxes(crowds)} marked iscrowd: not trained on, ignored in the evaluation'),
        (orphans, f'{count(orphans, "annotation")} of images not listed'),
        (empty, f'no {one_of(file)} of {shortlist(empty)}'),
        (not file.annotated, 'has no annotations; results can be written but not scored'),
    )
    return tuple(note for holds, note in notes if holds)


def one_of(file: CocoFile) -> str:
    """Return what is counted of a file, in words."""
    return 'object' if file.masks else 'box'


def counted(file: CocoFile, number: int) -> str:
    """Return a number of what is counted of a file, in words."""
    return count(number, 'object') if file.masks else count(number, 'box', 'boxes')
