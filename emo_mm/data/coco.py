"""Detection data in COCO format: reads annotation files, finds their images, and counts what a training would see."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from emo_mm.data.coco_types import check_types
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


@dataclass(frozen=True)
class CocoFile:
    """What one annotation file holds.

    Attributes:
        path: The file.
        classes: Category names **in the order of the file**. mmdet numbers the labels in that order, whatever the ids.
        supercategories: The group of each category ('' if none), in the same order.
        images: File name of each image.
        boxes: Number of usable boxes per class name. Usable is what mmdet's ``CocoDataset`` keeps: at least one pixel
            wide and high, area above 0, touching the image, not marked ``ignore``.
        unusable: Number of boxes that mmdet leaves out.
        orphans: Number of annotations whose image is not in the file.
        annotated: Whether the file has annotations at all; lists for a test server have none.
    """

    path: Path
    classes: tuple[str, ...]
    supercategories: tuple[str, ...]
    images: tuple[str, ...]
    boxes: dict[str, int]
    unusable: int
    orphans: int
    annotated: bool


@dataclass(frozen=True)
class CocoSplit:
    """One split of a COCO-format data set, checked.

    Attributes:
        ann_file: The annotation file, relative to the root where it lies under it.
        image_dir: Folder that the file names start from, likewise; '' is the root itself.
        images: Number of images listed, all of which exist.
        boxes: Number of usable boxes of the classes trained.
        notes: Oddities that are no faults.
    """

    ann_file: str
    image_dir: str
    images: int
    boxes: int
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
            found.append(summary(name, split.ann_file, split.images, split.boxes, self.classes))
            found += [f'  note: {note}' for note in split.notes]
        return found


def summary(split: str, ann_file: str, images: int, boxes: int, classes: Sequence[str]) -> str:
    """One line on a split whose images were all found."""
    classes_text = f'{count(len(classes), "class", "classes")}: {shortlist(classes)}'
    return f'{split}: {ann_file}: {images} of {images} images found, {count(boxes, "box", "boxes")}, {classes_text}'


def read_annotations(path: Path) -> CocoFile:
    """Reads and checks an annotation file; a file that has not changed is parsed once per process.

    Raises:
        UserError: The file cannot be read, or mmdet could not train or evaluate with it; the message names the fault.
    """
    try:
        stat = path.stat()
    except OSError as error:
        raise UserError(f'{path}: no such annotation file') from error
    if not path.is_file():
        raise UserError(f'{path}: is a folder; an annotation file (.json) is wanted')
    return _read(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=8)
def _read(path: Path, _mtime: int, _size: int) -> CocoFile:
    content = _parse(path)
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

    _all_differ(path, 'image id', [image['id'] for image in images])
    _all_differ(path, 'annotation id', [box['id'] for box in annotations])
    _all_differ(path, 'category id', [category['id'] for category in categories])
    names = [str(category['name']) for category in categories]
    _all_differ(path, 'category name', names)

    name_of = {category['id']: name for category, name in zip(categories, names, strict=True)}
    undeclared = Counter(box['category_id'] for box in annotations if box['category_id'] not in name_of)
    if undeclared:
        raise UserError(
            f"{path}: {count(undeclared.total(), 'box has', 'boxes have')} a category id that 'categories' does not "
            f'declare: {shortlist(sorted(undeclared, key=str))}'
        )
    size_of = {image['id']: (image['width'], image['height']) for image in images}
    boxes = Counter(dict.fromkeys(names, 0))
    unusable = orphans = 0
    for box in annotations:
        if box['image_id'] not in size_of:
            orphans += 1
        elif _usable(path, box, *size_of[box['image_id']]):
            boxes[name_of[box['category_id']]] += 1
        else:
            unusable += 1
    return CocoFile(
        path=path,
        classes=tuple(names),
        supercategories=tuple(str(category.get('supercategory') or '') for category in categories),
        images=tuple(str(image['file_name']) for image in images),
        boxes=dict(boxes),
        unusable=unusable,
        orphans=orphans,
        annotated=annotated,
    )


def _parse(path: Path) -> dict[str, Any]:
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


def _usable(path: Path, box: dict[str, Any], image_width: float, image_height: float) -> bool:
    try:
        left, top, width, height = box['bbox']
        shown_width = min(left + width, image_width) - max(left, 0)
        shown_height = min(top + height, image_height) - max(top, 0)
        big_enough = box['area'] > 0 and width >= 1 and height >= 1
    except (TypeError, ValueError) as error:
        raise UserError(
            f'{path}: annotation {box["id"]} has bbox {box["bbox"]!r} and area {box["area"]!r}; '
            'wanted are four numbers [left, top, width, height] in pixels and a number'
        ) from error
    return bool(big_enough and shown_width > 0 and shown_height > 0 and not box.get('ignore', False))


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


def require_images(file: CocoFile, image_dir: Path, flag: str) -> None:
    """Checks that every image of an annotation file exists.

    Raises:
        UserError: None is there, or some are missing; the message counts them and names the first.
    """
    absent = missing_images(image_dir, file.images)
    if len(absent) == len(file.images):
        raise UserError(
            f'{file.path}: none of its {count(len(absent), "image")} is in {image_dir} (the first is {absent[0]}); '
            f'give the folder of the images with {flag} DIR'
        )
    if absent:
        raise UserError(
            f'{file.path}: {len(absent)} of {count(len(file.images), "image")} are missing from {image_dir}: '
            f'{shortlist(absent, 3)}; complete the folder, or take them out of the annotation file'
        )


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


def resolve_coco(request: DataRequest, training: bool = True) -> CocoSplits:
    """Finds and checks the splits of a COCO-format data set.

    Known without further options: the COCO 2017 tree; ``annotations/{train,val,test}.json`` or
    ``annotations/instances_*.json`` with ``images/`` or ``images/{train,val,test}/``; Roboflow's
    ``{train,valid,test}/_annotations.coco.json`` beside the images. Anything else by the options of the request.

    Args:
        request: The data root and what overrides the search.
        training: Whether train and val are needed (test is taken if there is one), or only test (val if there is none).

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
        files[split] = read_annotations(path)
    classes = _agreed_classes(files)
    if request.classes:
        classes = _chosen_classes(classes, read_classes(locate(root, request.classes, '--classes')), files)
    found = {}
    for split, file in files.items():
        images = request.images(split)
        flag = f'--{split}-images'
        image_dir = locate(root, images, flag) if images else find_image_dir(root, file, split)
        require_images(file, image_dir, flag)
        boxes = count_boxes(file, classes, required=split != 'test')
        prefix = inside(root, image_dir)
        found[split] = CocoSplit(
            ann_file=inside(root, file.path),
            image_dir='' if prefix == '.' else f'{prefix.rstrip("/")}/',
            images=len(file.images),
            boxes=boxes,
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
    if file.orphans:
        notes.append(f'{count(file.orphans, "annotation")} of images not listed')
    empty = [name for name in classes if not file.boxes.get(name)]
    if empty and file.annotated:
        notes.append(f'no box of {shortlist(empty)}')
    if not file.annotated:
        notes.append('has no annotations; results can be written but not scored')
    return tuple(notes)
