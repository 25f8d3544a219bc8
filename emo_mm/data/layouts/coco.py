"""Detection data in COCO format: reads annotation files, finds their images, and counts what a training would see."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from emo_mm.data.layouts.coco_types import check_types
from emo_mm.data.splits import (
    SPLIT_NAMES,
    DataRequest,
    count,
    inside,
    locate,
    read_classes,
    shortlist,
    wanted_splits,
)
from emo_mm.errors import UserError

# Where annotation files usually lie, for a split written S; the first that exists is taken.
ANNOTATION_PATTERNS = (
    'annotations/instances_{S}.json',
    'annotations/{S}.json',
    'instances_{S}.json',
    '{S}.json',
    '{S}/_annotations.coco.json',
    '{S}/annotations.json',
)

# Other COCO files which lie beside the instances and hold no boxes to train on.
OTHER_TASKS = ('captions', 'keypoints', 'panoptic', 'stuff', 'info')

IMAGE_KEYS = ('id', 'file_name', 'width', 'height')
BOX_KEYS = ('id', 'image_id', 'category_id', 'bbox', 'area', 'iscrowd')


# What makes an entry one that nothing can be trained on, and how it is said where there is no table to put it in.
_BROKEN = {
    'image id used twice': 'every image id must be used once, but {} is used more than once',
    'annotation id used twice': 'every annotation id must be used once, but {} is used more than once',
    'undeclared category': "boxes have a category id that 'categories' does not declare: {}",
    'bbox that is no box': '{}; wanted are four numbers [left, top, width, height] in pixels and a number',
    'image without a size': 'width and height of an image must be numbers above 0: {}',
}


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
        return self.kind in _BROKEN


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
        unusable: Number of boxes that mmdet leaves out.
        crowds: Number of boxes marked ``iscrowd``, which no detector is trained on.
        orphans: Number of annotations whose image is not in the file.
        annotated: Whether the file has annotations at all; lists for a test server have none.
        annotations: How many it has, usable or not.
        faults: Single entries that cannot be used.
        without_boxes: Indices of the images that have no usable box.
        listed: Classes of all annotations of each image, usable or not.
    """

    path: Path
    classes: tuple[str, ...]
    supercategories: tuple[str, ...]
    images: tuple[str, ...]
    sizes: tuple[tuple[Any, Any], ...]
    boxes: dict[str, int]
    unusable: int
    crowds: int
    orphans: int
    annotated: bool
    annotations: int
    faults: tuple[EntryFault, ...]
    without_boxes: tuple[int, ...]
    listed: tuple[frozenset[str], ...]


@dataclass(frozen=True)
class CocoSplit:
    """One split of a COCO-format data set, checked.

    Attributes:
        ann_file: The annotation file, relative to the root where it lies under it.
        image_dir: Folder that the file names start from, likewise; '' is the root itself.
        images: Number of images listed.
        present: Number of them that exist.
        boxes: Number of usable boxes of the classes trained.
        file: All that the annotation file holds.
        notes: Oddities that are no faults.
    """

    ann_file: str
    image_dir: str
    images: int
    present: int
    boxes: int
    file: CocoFile
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class CocoSplits:
    """A COCO-format data set, checked.

    Attributes:
        root: Its folder.
        classes: Class names in label order.
        splits: Found splits by name (``train``, ``val``, ``test``).
    """

    root: Path
    classes: tuple[str, ...]
    splits: dict[str, CocoSplit]

    def lines(self) -> list[str]:
        """The counts of matched images and boxes, a line per split."""
        found = []
        for name, split in self.splits.items():
            found.append(summary(name, split.ann_file, split.present, split.images, split.boxes, self.classes))
            found += [f'  note: {note}' for note in split.notes]
        return found


def summary(split: str, ann_file: str, present: int, images: int, boxes: int, classes: Sequence[str]) -> str:
    """One line on a split: images found and listed, boxes, classes."""
    classes_text = f'{count(len(classes), "class", "classes")}: {shortlist(classes)}'
    return f'{split}: {ann_file}: {present} of {images} images found, {count(boxes, "box", "boxes")}, {classes_text}'


def read_annotations(path: Path, tolerant: bool = False) -> CocoFile:
    """Reads and checks an annotation file; a file that has not changed is parsed once per process.

    Args:
        path: The file.
        tolerant: Whether faults of single entries are left to who looks at ``CocoFile.faults``.

    Raises:
        UserError: The file cannot be read, or mmdet could not train or evaluate with it; the message names the fault.
    """
    try:
        stat = path.stat()
    except OSError as error:
        raise UserError(f'{path}: no such annotation file') from error
    if not path.is_file():
        raise UserError(f'{path}: is a folder; an annotation file (.json) is wanted')
    file = _read(path, stat.st_mtime_ns, stat.st_size)
    broken = [fault for fault in file.faults if fault.broken]
    if broken and not tolerant:
        same = [fault.detail for fault in broken if fault.kind == broken[0].kind]
        text = _BROKEN[broken[0].kind].format(shortlist(dict.fromkeys(same), 5))
        raise UserError(f'{path}: {len(same)} {text}' if text.startswith('boxes') else f'{path}: {text}')
    return file


@lru_cache(maxsize=8)
def _read(path: Path, _mtime: int, _size: int) -> CocoFile:
    content = parse_annotations(path)
    annotated = 'annotations' in content
    for key in ('images', 'annotations', 'categories') if annotated else ('images', 'categories'):
        if not isinstance(content.get(key), list):
            raise UserError(f"{path}: has no list '{key}', so it is no COCO annotation file")
    images = _records(path, content['images'], 'images', IMAGE_KEYS)
    if not images:
        raise UserError(f'{path}: lists no images')
    categories = _records(path, content['categories'], 'categories', ('id', 'name'))
    if not categories:
        raise UserError(f"{path}: lists no categories; COCO format names each class in 'categories'")
    annotations = _records(path, content['annotations'], 'annotations', BOX_KEYS) if annotated else []

    _all_differ(path, 'category id', [category['id'] for category in categories])
    names = [str(category['name']) for category in categories]
    _all_differ(path, 'category name', names)
    name_of = {category['id']: name for category, name in zip(categories, names, strict=True)}

    faults = _faulty_images(images)
    # An id that two images share tells nothing; the first one stands for both in the counts.
    indices = {image['id']: index for index, image in reversed(list(enumerate(images)))}
    boxes = Counter(dict.fromkeys(names, 0))
    used: set[int] = set()
    listed = [frozenset[str]()] * len(images)
    ids: set[Any] = set()
    unusable = crowds = orphans = 0
    for position, box in enumerate(annotations):
        index = indices.get(box['image_id'])
        image = None if index is None else images[index]
        kind, detail = _fault_of_box(box, image, ids, name_of)
        if kind:
            name = '' if image is None else str(image['file_name'])
            faults.append(EntryFault(kind, 'annotations', position, name, detail))
        if index is not None:
            listed[index] |= _declared(box['category_id'], name_of)
        if index is None:
            orphans += 1
        elif kind and kind not in HARMLESS:
            unusable += kind not in _BROKEN
        elif box.get('ignore', False):
            unusable += 1
        elif box['iscrowd']:
            crowds += 1
            used.add(index)  # mmdet keeps the image
        else:
            boxes[name_of[box['category_id']]] += 1
            used.add(index)
    return CocoFile(
        path=path,
        classes=tuple(names),
        supercategories=tuple(str(category.get('supercategory') or '') for category in categories),
        images=tuple(str(image['file_name']) for image in images),
        sizes=tuple((image['width'], image['height']) for image in images),
        boxes=dict(boxes),
        unusable=unusable,
        crowds=crowds,
        orphans=orphans,
        annotated=annotated,
        annotations=len(annotations),
        faults=tuple(faults),
        without_boxes=tuple(index for index in range(len(images)) if index not in used),
        listed=tuple(listed),
    )


def _declared(category: Any, name_of: dict[Any, str]) -> frozenset[str]:
    """Return the name of a category, nothing for one that is not declared."""
    known = isinstance(category, (int, str)) and category in name_of
    return frozenset((name_of[category],)) if known else frozenset()


# Told, but used for training as it is: photographs cut the objects at their borders, and so should boxes.
HARMLESS = ('box that reaches beyond its image',)


def _faulty_images(images: list[dict[str, Any]]) -> list[EntryFault]:
    """Finds images that share an id, or have no size."""
    faults = []
    entries: dict[str, list[int]] = {}
    for index, image in enumerate(images):
        entries.setdefault(str(image['id']), []).append(index)
        if not all(is_number(image[key]) and image[key] > 0 for key in ('width', 'height')):
            detail = f'{image["width"]!r} x {image["height"]!r}'
            faults.append(EntryFault('image without a size', 'images', index, str(image['file_name']), detail))
    for same in entries.values():
        if len(same) > 1:
            # Where the entries agree one may stay. Where they differ nobody knows whose boxes are whose.
            agree = all(images[index] == images[same[0]] for index in same)
            for index in same[1:] if agree else same:
                name = str(images[index]['file_name'])
                faults.append(EntryFault('image id used twice', 'images', index, name, f'image {images[index]["id"]}'))
    return faults


def _fault_of_box(
    box: dict[str, Any], image: dict[str, Any] | None, ids: set[Any], name_of: dict[Any, str]
) -> tuple[str, str]:
    """Names what is wrong with an annotation, and its value; two empty strings if nothing is.

    Args:
        box: The annotation.
        image: Its image; None if it is not listed.
        ids: Annotation ids met before; that of the box is added.
        name_of: The classes by their ids.
    """
    number = str(box['id'])
    if number in ids:
        return 'annotation id used twice', f'annotation {number}'
    ids.add(number)
    if image is None:
        return '', ''
    category, bbox, area = box['category_id'], box['bbox'], box['area']
    if category not in name_of:
        return 'undeclared category', f'annotation {number}: category {category}'
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(map(is_number, (*bbox, area))):
        return 'bbox that is no box', f'annotation {number} has bbox {bbox!r} and area {area!r}'
    left, top, width, height = bbox
    if not (width >= 1 and height >= 1 and area > 0):
        return 'box of no area', f'annotation {number}: bbox {bbox}, area {area}'
    if not all(map(is_number, (image['width'], image['height']))):
        return '', ''  # a fault of the image
    right, bottom = left + width, top + height
    if min(right, image['width']) <= max(left, 0) or min(bottom, image['height']) <= max(top, 0):
        return 'box outside its image', f'annotation {number}: bbox {bbox} of {image["width"]}x{image["height"]}'
    if min(left, top) < -1 or right > image['width'] + 1 or bottom > image['height'] + 1:
        return HARMLESS[0], f'annotation {number}: bbox {bbox} of {image["width"]}x{image["height"]}'
    return '', ''


def is_number(value: Any) -> bool:
    """Tell whether a value of a JSON file is a finite number; true and false are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def parse_annotations(path: Path) -> dict[str, Any]:
    """Reads the object that an annotation file holds.

    Raises:
        UserError: The file cannot be read, or is no such file.
    """
    try:
        with path.open(encoding='utf-8') as file:
            content = json.load(file)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'{path}: cannot be read ({error})') from error
    except RecursionError:
        raise UserError(f'{path}: is nested too deep for an annotation file') from None
    except ValueError as error:  # JSONDecodeError, and numbers of thousands of digits
        raise UserError(f'{path}: is not valid JSON ({error}); the file may be cut off') from error
    if not isinstance(content, dict):
        raise UserError(f'{path}: holds a {type(content).__name__}, not the object of a COCO annotation file')
    return content


def _records(path: Path, items: list[Any], what: str, keys: tuple[str, ...]) -> list[dict[str, Any]]:
    """Checks that each entry of a list is an object with the keys that mmdet and the evaluation read."""
    missing: Counter[str] = Counter()
    for item in items:
        if not isinstance(item, dict):
            raise UserError(f"{path}: '{what}' holds {str(item)[:40]!r} where an object is wanted")
        if not item.keys() >= set(keys):
            missing.update(key for key in keys if key not in item)
    if missing:
        lacking = ', '.join(f"'{key}' ({number} of {len(items)})" for key, number in missing.items())
        hint = '; area may be width x height of the box, iscrowd 0' if {'area', 'iscrowd'} & missing.keys() else ''
        raise UserError(f"{path}: entries of '{what}' lack {lacking}{hint}")
    check_types(path, what, items)
    return items


def _all_differ(path: Path, what: str, values: list[Any]) -> None:
    if len(set(map(str, values))) < len(values):
        repeated = [value for value, times in Counter(map(str, values)).items() if times > 1]
        raise UserError(f'{path}: every {what} must be used once, but {shortlist(repeated, 5)} is used more than once')


def missing_images(image_dir: Path, names: Iterable[str]) -> list[str]:
    """The names that are no files under a folder. Each folder is listed once, as 100,000 look-ups are slow on disks."""
    listed: dict[str, set[str]] = {}
    absent = []
    for name in names:
        head, _, base = name.rpartition('/')
        if head not in listed:
            try:
                listed[head] = {entry.name for entry in os.scandir(image_dir / head)}
            except OSError:
                listed[head] = set()
        if base not in listed[head]:
            absent.append(name)
    return absent


def require_images(file: CocoFile, image_dir: Path, flag: str, tolerant: bool = False) -> int:
    """Checks that every image of an annotation file exists.

    Args:
        file: The annotations.
        image_dir: Folder that the file names start from.
        flag: The option that gives it, for the message.
        tolerant: Whether it is enough that some images are there.

    Returns:
        Number of images that are there.

    Raises:
        UserError: None is there, or some are missing; the message counts them and names the first.
    """
    absent = missing_images(image_dir, file.images)
    if len(absent) == len(file.images):
        raise UserError(
            f'{file.path}: none of its {count(len(absent), "image")} is in {image_dir} (the first is {absent[0]}); '
            f'give the folder of the images with {flag} DIR'
        )
    if absent and not tolerant:
        raise UserError(
            f'{file.path}: {len(absent)} of {count(len(file.images), "image")} are missing from {image_dir}: '
            f'{shortlist(absent, 3)}; complete the folder, or take them out of the annotation file'
        )
    return len(file.images) - len(absent)


def find_annotations(root: Path, split: str) -> Path | None:
    """Finds the annotation file of a split by its usual places and names.

    Raises:
        UserError: Several files might be meant.
    """
    for pattern in ANNOTATION_PATTERNS:
        for name in SPLIT_NAMES[split]:
            if (root / pattern.format(S=name)).is_file():
                return root / pattern.format(S=name)
    named = []
    for path in sorted([*root.glob('*.json'), *root.glob('annotations/*.json')]):
        words = set(path.stem.lower().replace('-', '_').replace('.', '_').split('_'))
        if words & set(SPLIT_NAMES[split]) and not words & set(OTHER_TASKS):
            named.append(path)
    if len(named) > 1:
        options = shortlist(inside(root, path) for path in named)
        raise UserError(
            f'{root}: several annotation files may be the {split} split: {options}; pick with --{split}-ann'
        )
    return named[0] if named else None


def find_image_dir(root: Path, file: CocoFile, split: str) -> Path:
    """Finds the folder that the file names of an annotation file start from.

    Raises:
        UserError: No usual place holds any of them.
    """
    stem = file.path.stem.removeprefix('instances_')
    names = dict.fromkeys((stem, *SPLIT_NAMES[split]))
    candidates = [file.path.parent, *(root / name for name in names)]
    candidates += [root / folder / name for folder in ('images', 'data') for name in names]
    candidates += [root / name / 'images' for name in names]
    candidates += [root / 'images', root / 'data', root, file.path.parent / 'images', file.path.parent.parent]
    step = max(1, len(file.images) // 32)
    probe = file.images[::step]  # enough to tell folders apart; all names are checked afterwards
    existing = [folder for folder in dict.fromkeys(candidates) if folder.is_dir()]
    best, fewest = root, len(probe)
    for folder in existing:
        absent = len(missing_images(folder, probe))
        if absent < fewest:
            best, fewest = folder, absent
        if not absent:
            break
    if fewest == len(probe):
        tried = shortlist([inside(root, folder) for folder in existing], 6)
        raise UserError(
            f'{file.path}: matches no image: {file.images[0]} and the others are in none of {tried} (under {root}); '
            f'give the folder of the images with --{split}-images DIR'
        )
    return best


def resolve_coco(request: DataRequest, training: bool = True, tolerant: bool = False) -> CocoSplits:
    """Finds and checks the splits of a COCO-format data set.

    Known without further options: the COCO 2017 tree; ``annotations/{train,val,test}.json`` or
    ``annotations/instances_*.json`` with ``images/`` or ``images/{train,val,test}/``; Roboflow's
    ``{train,valid,test}/_annotations.coco.json`` beside the images. Anything else by the options of the request.

    Args:
        request: The data root and what overrides the search.
        training: Whether train and val are needed (test is taken if there is one), or only test (val if there is none).
        tolerant: Whether faults of single images and annotations are left to ``content_check``.

    Raises:
        UserError: A split or its images cannot be found, a file is faulty, or the splits disagree on the classes.
    """
    root = request.root
    files: dict[str, CocoFile] = {}
    for split in wanted_splits(request, training, find_annotations):
        given = request.ann(split)
        path = locate(root, given, f'--{split}-ann') if given else find_annotations(root, split)
        if path is None:
            raise _no_annotations(root, split)
        files[split] = read_annotations(path, tolerant)
    classes = _agreed_classes(files)
    if request.classes:
        classes = _chosen_classes(classes, read_classes(locate(root, request.classes, '--classes')), files)
    found = {}
    for split, file in files.items():
        images = request.images(split)
        flag = f'--{split}-images'
        image_dir = locate(root, images, flag) if images else find_image_dir(root, file, split)
        present = require_images(file, image_dir, flag, tolerant)
        boxes = count_boxes(file, classes, required=split != 'test')
        prefix = inside(root, image_dir)
        found[split] = CocoSplit(
            ann_file=inside(root, file.path),
            image_dir='' if prefix == '.' else f'{prefix.rstrip("/")}/',
            images=len(file.images),
            present=present,
            boxes=boxes,
            file=file,
            notes=oddities(file, classes),
        )
    return CocoSplits(root, classes, found)


def _no_annotations(root: Path, split: str) -> UserError:
    present = shortlist((inside(root, path) for path in sorted(root.glob('**/*.json'))[:20]), 5) or 'no .json file'
    hint = ' (to evaluate on the training images, give the training file again)' if split == 'val' else ''
    return UserError(
        f'{root}: no COCO annotation file of the {split} split found; usual is annotations/{split}.json or '
        f'{split}/_annotations.coco.json, here is {present}. Give it with --{split}-ann FILE{hint}'
    )


def _agreed_classes(files: dict[str, CocoFile]) -> tuple[str, ...]:
    """The classes of the first split, which the others must share in the same order.

    mmdet numbers labels by each file's own order, so files that list the same categories in another order would be
    trained and evaluated with classes exchanged, without a word.
    """
    first, *others = files.values()
    for other in others:
        if set(other.classes) != set(first.classes):
            only_first = shortlist(sorted(set(first.classes) - set(other.classes))) or 'none'
            only_other = shortlist(sorted(set(other.classes) - set(first.classes))) or 'none'
            raise UserError(
                f"{other.path}: its classes differ from {first.path}'s: missing are {only_first}, new are "
                f"{only_other}; give both files the same 'categories'"
            )
        if other.classes != first.classes:
            raise UserError(
                f'{other.path}: lists its categories in another order than {first.path} '
                f'({shortlist(other.classes, 4)} against {shortlist(first.classes, 4)}), and mmdet numbers labels by '
                "that order; copy the list 'categories' of one file to the other (ids fitting its own annotations)"
            )
    # Roboflow adds the name of the data set as a category of its own, the supercategory of the rest, without boxes.
    groups = set(first.supercategories)
    return tuple(
        name
        for name, group in zip(first.classes, first.supercategories, strict=True)
        if name not in groups - {group} or any(file.boxes[name] for file in files.values())
    )


def _chosen_classes(classes: tuple[str, ...], wanted: list[str], files: dict[str, CocoFile]) -> tuple[str, ...]:
    unknown = [name for name in wanted if name not in classes]
    if unknown:
        path = next(iter(files.values())).path
        raise UserError(
            f'{path}: has no class {shortlist(unknown)} as asked for by --classes; it has {shortlist(classes)}'
        )
    return tuple(name for name in classes if name in wanted)


def count_boxes(file: CocoFile, classes: Sequence[str], required: bool) -> int:
    """Counts the usable boxes of some classes.

    Raises:
        UserError: There is none though boxes are required.
    """
    boxes = sum(file.boxes.get(name, 0) for name in classes)
    if required and not boxes:
        why = f', {file.unusable} that are empty or outside their image' if file.unusable else ''
        if file.crowds:
            why += (
                f', {file.crowds} marked iscrowd=1, a crowd that is not trained on (CVAT marks masks so: '
                'export them as polygons, or set iscrowd to 0 where each is one object)'
            )
        why += f', {file.orphans} of images that it does not list' if file.orphans else ''
        raise UserError(f'{file.path}: holds no usable box of the classes {shortlist(classes)}{why}')
    return boxes


def oddities(file: CocoFile, classes: Sequence[str]) -> tuple[str, ...]:
    """What a user should know of a file that can be trained on all the same."""
    notes = []
    left_out = [name for name in file.classes if name not in classes]
    if left_out:
        boxes = sum(file.boxes[name] for name in left_out)
        notes.append(f'not trained: {shortlist(left_out)} ({count(boxes, "box", "boxes")})')
    if file.unusable:
        notes.append(f'{count(file.unusable, "box", "boxes")} left out: empty, outside the image or marked ignore')
    if file.crowds:
        notes.append(f'{count(file.crowds, "box", "boxes")} marked iscrowd: not trained on, ignored in the evaluation')
    if file.orphans:
        notes.append(f'{count(file.orphans, "annotation")} of images not listed')
    empty = [name for name in classes if not file.boxes.get(name)]
    if empty and file.annotated:
        notes.append(f'no box of {shortlist(empty)}')
    if not file.annotated:
        notes.append('has no annotations; results can be written but not scored')
    return tuple(notes)
