"""Where COCO annotation files and their images lie."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from emo_mm.data.layouts.base import LayoutError
from emo_mm.data.layouts.coco.file import CocoFile, parse_annotations
from emo_mm.data.layouts.coco.names import meant_images, missing_images
from emo_mm.data.splits import SPLIT_NAMES, count, inside, shortlist
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
OTHER_TASKS = frozenset(('captions', 'keypoints', 'panoptic', 'stuff', 'info'))


# What tools call the file of a data set without splits: CVAT, Roboflow, Label Studio.
_UNDIVIDED = ('annotations.json', 'instances_default.json', '_annotations.coco.json', 'result.json', 'coco.json')


def find_annotations(root: Path, split: str) -> Path | None:
    """Return the annotation file of a split, by its usual places and names.

    Raises:
        UserError: If several files might be meant.
    """
    for pattern in ANNOTATION_PATTERNS:
        for name in SPLIT_NAMES[split]:
            if (root / pattern.format(S=name)).is_file():
                return root / pattern.format(S=name)
    listed = sorted([*root.glob('*.json'), *root.glob('annotations/*.json')])
    named = [path for path in listed if _words(path) & set(SPLIT_NAMES[split]) and not _words(path) & OTHER_TASKS]
    if len(named) > 1:
        options = shortlist(inside(root, path) for path in named)
        raise UserError(
            f'{root}: several annotation files may be the {split} split: {options}; pick with --{split}-ann'
        )
    return named[0] if named else _only_file(root, split)


def _only_file(root: Path, split: str) -> Path | None:
    """Return the only COCO file in the folder of a split, whatever its name."""
    found = [path for name in SPLIT_NAMES[split] for path in root.glob(f'{name}/*.json') if _is_coco(path)]
    return found[0] if len(found) == 1 else None


def undivided_file(root: Path) -> Path | None:
    """Return the annotation file of a data set without splits: one of a usual name, or the only one.

    Raises:
        UserError: If several files may be meant.
    """
    listed = sorted([*root.glob('*.json'), *root.glob('*/*.json')])
    found = [path for path in listed if path.name in _UNDIVIDED]
    found = found or [path for path in listed if not _words(path) & OTHER_TASKS and _is_coco(path)]
    if len(found) > 1:
        options = shortlist(inside(root, path) for path in found)
        raise UserError(f'{root}: several annotation files may be meant: {options}; pick with --train-ann')
    return found[0] if found else None


def annotation_files(root: Path) -> list[Path]:
    """Return the COCO files of a tree that list boxes.

    That is all in ``annotations/``, those in the root that are named for a split, and those in the folder of a split
    that are called after COCO or hold what a COCO file holds.
    """
    splits = {name for names in SPLIT_NAMES.values() for name in names}
    found = {*root.glob('annotations/*.json'), *root.glob('*/_annotations.coco.json')}
    found |= {path for path in root.glob('*.json') if _words(path) & splits}
    found |= {path for name in splits for path in root.glob(f'{name}/*.json') if path in found or _is_coco(path)}
    return sorted(path for path in found if not _words(path) & OTHER_TASKS)


def _is_coco(path: Path) -> bool:
    try:
        return parse_annotations(path).keys() >= {'images', 'categories'}
    except UserError:
        return False


def split_of(root: Path, path: Path) -> str:
    """Return the split that an annotation file is named for, ``train`` if for none."""
    name = inside(root, path).lower()
    return next((split for split, names in SPLIT_NAMES.items() if any(n in name for n in names)), 'train')


def _words(path: Path) -> set[str]:
    return set(re.split(r'[_.-]', path.stem.lower()))


def require_images(file: CocoFile, image_dir: Path, flag: str, tolerant: bool = False) -> int:
    """Return how many images of an annotation file exist, which must be all of them.

    Args:
        file: The annotations.
        image_dir: Folder that the file names start from.
        flag: The option that gives it, for the message.
        tolerant: Whether it is enough that some images are there.

    Raises:
        UserError: If none is there, or some are missing; the message counts them and names the first.
    """
    absent = missing_images(image_dir, file.images)
    if len(absent) == len(file.images):
        raise UserError(
            f'{file.path}: none of its {count(len(absent), "image")} is in {image_dir} (the first is {absent[0]}); '
            f'give the folder of the images with {flag} DIR'
        )
    if absent and not tolerant:
        raise LayoutError(
            f'{file.path}: {len(absent)} of {count(len(file.images), "image")} are missing from {image_dir}: '
            f'{shortlist(absent, 3)}',
            'complete the folder, or take them out of the annotation file',
            f'cp -n /path/to/the/originals/* {shlex.quote(str(image_dir))}/',
        )
    return len(file.images) - len(absent)


def find_image_dir(root: Path, file: CocoFile, split: str) -> Path:
    """Return the folder that the file names of an annotation file start from.

    Raises:
        UserError: If no usual place holds any of them.
    """
    step = max(1, len(file.images) // 32)
    probe = file.images[::step]  # enough to tell folders apart; all names are checked afterwards
    existing = [folder for folder in _image_dirs(root, file.path, split) if folder.is_dir()]
    best, fewest = root, len(probe)
    for folder in existing:
        absent = len(missing_images(folder, probe))
        if absent < fewest:
            best, fewest = folder, absent
        if not absent:
            break
    if fewest == len(probe):
        for folder in existing:
            if len(meant_images(folder, probe)) == len(probe):
                return folder
        tried = shortlist([inside(root, folder) for folder in existing], 6)
        raise LayoutError(
            f'{file.path}: matches no image: {file.images[0]} and the others are in none of {tried} (under {root})',
            f'give the folder of the images with --{split}-images DIR',
            f'find {shlex.quote(str(root))} -name {shlex.quote(Path(file.images[0]).name)}',
        )
    return best


def _image_dirs(root: Path, ann_file: Path, split: str) -> list[Path]:
    """Return where the images of a file may lie, the most usual places first."""
    names = dict.fromkeys((ann_file.stem.removeprefix('instances_'), *SPLIT_NAMES[split]))
    places = [ann_file.parent, *(root / name for name in names)]
    places += [root / folder / name for folder in ('images', 'data') for name in names]
    places += [root / name / 'images' for name in names]
    places += [root / 'images', root / 'data', root, ann_file.parent / 'images', ann_file.parent.parent]
    return list(dict.fromkeys(places))
