"""The demonstration data set: pictures of shapes, generated on the spot, so that a first training needs no download.

One call writes the same pictures for three tasks:

    ROOT/
      shapes.json                                      what it was generated with
      annotations/instances_{train,val}.json           COCO detection
      images/{train,val}/000000.jpg
      masks/{train,val}/000000.png, masks/CLASSES.txt  semantic segmentation: 0 background, 1.. the classes
      folders/{train,val}/<class>/0000.jpg             classification: one shape a picture

The same parameters give the same files, on one machine with one set of library versions to the byte.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from emo_mm.data.shapes.painter import CLASSES, paint_scene
from emo_mm.errors import UserError

# Raise this whenever the files written for the same parameters change: older trees are then generated again.
GENERATOR_VERSION = 3

#: Colour of each mask value: the background, then the classes.
PALETTE = ((0, 0, 0), (230, 75, 60), (60, 130, 230), (70, 175, 90), (245, 190, 50))

_SPLITS = ('train', 'val')
_STAMP = 'shapes.json'
_TOP_LEVEL = {_STAMP, 'annotations', 'images', 'masks', 'folders'}
_JPEG_QUALITY = 92
_SHAPE_COUNTS = (2, 3, 4, 5)  # shapes asked for in a picture, equally likely
_FOLDER_SHARE = 4  # one class folder holds a quarter as many pictures as the split has scenes
_MIN_SIZE = 64


@dataclass(frozen=True)
class ShapesSummary:
    """What a demonstration data set holds.

    Attributes:
        root: Folder of the data set.
        classes: Class names; the COCO category ids and the mask values are 1, 2, ... in this order.
        images: Number of scenes of each split.
        boxes: Number of annotated shapes of each split.
        folder_images: Number of one-shape pictures of each split, all classes together.
        created: False where the data set was there already and nothing was written.
    """

    root: Path
    classes: tuple[str, ...]
    images: dict[str, int]
    boxes: dict[str, int]
    folder_images: dict[str, int]
    created: bool

    def __str__(self) -> str:
        parts = [
            f'{split}: {self.images[split]} images, {self.boxes[split]} boxes, {self.folder_images[split]} crops'
            for split in _SPLITS
        ]
        return f'{self.root} {"generated" if self.created else "is up to date"} ({"; ".join(parts)})'


@dataclass(frozen=True)
class _Stamp:
    """Contents of the stamp file: all that decides which files are written."""

    num_train: int
    num_val: int
    size: int
    seed: int
    generator_version: int = GENERATOR_VERSION

    def count(self, split: str) -> int:
        return self.num_train if split == 'train' else self.num_val

    def count_per_folder(self, split: str) -> int:
        return max(1, self.count(split) // _FOLDER_SHARE)


def generate(
    root: str | Path, num_train: int = 400, num_val: int = 100, size: int = 256, seed: int = 0
) -> ShapesSummary:
    """Write the demonstration data set, unless it is there already.

    The files are written beside `root` and renamed into place when complete. A data set that this function wrote with
    other parameters, or that has lost files, is replaced.

    Args:
        root: Folder of the data set; made when absent.
        num_train: Number of training scenes. Each class folder gets a quarter as many pictures.
        num_val: Number of validation scenes, likewise.
        size: Side of the scenes in pixels; the one-shape pictures have half that side.
        seed: Which data set: each seed gives other pictures.

    Returns:
        The counts, and whether anything was written.

    Raises:
        UserError: A parameter is out of range, or `root` holds something else than a generated data set.
    """
    root = Path(root)
    for name, value, least in (
        ('num_train', num_train, 1),
        ('num_val', num_val, 1),
        ('size', size, _MIN_SIZE),
        ('seed', seed, 0),
    ):
        if value < least:
            raise UserError(f'{name} must be at least {least}, got {value}')
    stamp = _Stamp(num_train, num_val, size, seed)
    _check_replaceable(root)
    if _is_complete(root, stamp):
        return _summarize(root, stamp, created=False)

    root.parent.mkdir(parents=True, exist_ok=True)
    partial = root.with_name(f'.{root.name}.partial-{os.getpid()}')
    try:
        if partial.exists():
            shutil.rmtree(partial)
        for split in _SPLITS:
            _write_scenes(partial, split, stamp)
            _write_folders(partial, split, stamp)
        lines = [f'{value} {name}' for value, name in enumerate(('background', *CLASSES))]
        (partial / 'masks' / 'CLASSES.txt').write_text('\n'.join(lines) + '\n', encoding='utf-8')
        (partial / _STAMP).write_text(json.dumps(asdict(stamp), indent=2) + '\n', encoding='utf-8')
        if root.exists():
            shutil.rmtree(root)
        partial.rename(root)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return _summarize(root, stamp, created=True)


def _check_replaceable(root: Path) -> None:
    """Make sure that nothing of somebody else's stands at `root`."""
    if not root.exists():
        return
    if not root.is_dir():
        raise UserError(f'{root} is a file, not a folder: choose another folder for the demonstration data set')
    entries = {entry.name for entry in root.iterdir()}
    if entries and _STAMP not in entries:
        raise UserError(
            f'{root} holds files but no {_STAMP}, so it is not a generated demonstration data set and is left as it '
            f'is: choose another folder, or empty this one'
        )
    if foreign := sorted(entries - _TOP_LEVEL):
        raise UserError(
            f'{root} holds {foreign[0]!r}, which does not belong to the demonstration data set: move it away, or '
            f'choose another folder'
        )


def _is_complete(root: Path, stamp: _Stamp) -> bool:
    """Whether `root` holds the data set of this stamp with all its files."""
    try:
        found = json.loads((root / _STAMP).read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return False
    if found != asdict(stamp) or not (root / 'masks' / 'CLASSES.txt').is_file():
        return False
    return all(
        _annotation_file(root, split).is_file()
        and len(list((root / 'images' / split).glob('*.jpg'))) == stamp.count(split)
        and len(list((root / 'masks' / split).glob('*.png'))) == stamp.count(split)
        and len(list((root / 'folders' / split).glob('*/*.jpg'))) == stamp.count_per_folder(split) * len(CLASSES)
        for split in _SPLITS
    )


def _summarize(root: Path, stamp: _Stamp, created: bool) -> ShapesSummary:
    boxes = {}
    for split in _SPLITS:
        boxes[split] = len(json.loads(_annotation_file(root, split).read_text(encoding='utf-8'))['annotations'])
    return ShapesSummary(
        root=root,
        classes=CLASSES,
        images={split: stamp.count(split) for split in _SPLITS},
        boxes=boxes,
        folder_images={split: stamp.count_per_folder(split) * len(CLASSES) for split in _SPLITS},
        created=created,
    )


def _annotation_file(root: Path, split: str) -> Path:
    return root / 'annotations' / f'instances_{split}.json'


def _rng(stamp: _Stamp, split: str, task: int, number: int) -> np.random.Generator:
    """A generator of its own for each picture, so that a picture does not depend on how many there are."""
    return np.random.Generator(np.random.PCG64([stamp.seed, _SPLITS.index(split), task, number]))


def _write_scenes(root: Path, split: str, stamp: _Stamp) -> None:
    """Write the scenes of one split with their boxes and semantic masks."""
    image_dir, mask_dir = root / 'images' / split, root / 'masks' / split
    for folder in (image_dir, mask_dir, root / 'annotations'):
        folder.mkdir(parents=True, exist_ok=True)
    palette = [channel for colour in PALETTE for channel in colour]
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(stamp.count(split)):
        rng = _rng(stamp, split, 0, number)
        scene = paint_scene(rng, stamp.size, rng.integers(len(CLASSES), size=rng.choice(_SHAPE_COUNTS)).tolist())
        name = f'{number:06d}'
        Image.fromarray(scene.image).save(image_dir / f'{name}.jpg', quality=_JPEG_QUALITY)
        images.append({'id': number + 1, 'file_name': f'{name}.jpg', 'width': stamp.size, 'height': stamp.size})
        semantic = np.zeros((stamp.size, stamp.size), np.uint8)
        for label, mask in zip(scene.labels, scene.masks, strict=True):
            semantic[mask] = label + 1
            annotations.append(
                {
                    'id': len(annotations) + 1,
                    'image_id': number + 1,
                    'category_id': label + 1,
                    'bbox': _box(mask),
                    'area': int(mask.sum()),
                    'segmentation': _run_lengths(mask),
                    'iscrowd': 0,
                }
            )
        picture = Image.fromarray(semantic)
        picture.putpalette(palette)  # turns the greyscale picture into an indexed one with the same values
        picture.save(mask_dir / f'{name}.png')
    contents = {
        'info': {'description': 'emo_mm demonstration shapes', 'version': str(stamp.generator_version)},
        'images': images,
        'annotations': annotations,
        'categories': [{'id': index + 1, 'name': name, 'supercategory': 'shape'} for index, name in enumerate(CLASSES)],
    }
    _annotation_file(root, split).write_text(json.dumps(contents), encoding='utf-8')


def _write_folders(root: Path, split: str, stamp: _Stamp) -> None:
    """Write the one-shape pictures of one split, a folder a class."""
    for label, class_name in enumerate(CLASSES):
        folder = root / 'folders' / split / class_name
        folder.mkdir(parents=True)
        for number in range(stamp.count_per_folder(split)):
            rng = _rng(stamp, split, 1 + label, number)
            scene = paint_scene(rng, stamp.size // 2, [label], side_range=(0.4, 0.85))
            Image.fromarray(scene.image).save(folder / f'{number:04d}.jpg', quality=_JPEG_QUALITY)


def _box(mask: np.ndarray) -> list[int]:
    """COCO box (left, top, width, height) that just holds the pixels of a mask of shape (height, width)."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    return [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1]


def _run_lengths(mask: np.ndarray) -> dict[str, list[int]]:
    """COCO's uncompressed run lengths: column by column, lengths of unset and set pixels in turn, unset first."""
    flat = np.concatenate([[False], mask.ravel(order='F')])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    ends = np.concatenate([[0], changes, [mask.size]])
    return {'counts': np.diff(ends).tolist(), 'size': list(mask.shape)}


def main(arguments: list[str] | None = None) -> int:
    """Command line of `python -m emo_mm.data.shapes.generate`.

    Args:
        arguments: Command-line arguments without the program's name; None reads those of the process.

    Returns:
        Exit code: 0, or 1 after an error that the user can fix.
    """
    parser = argparse.ArgumentParser(
        prog='python -m emo_mm.data.shapes.generate', description='Write the demonstration data.'
    )
    parser.add_argument('root', type=Path, help='folder of the data set')
    parser.add_argument('--num-train', type=int, default=400, help='training scenes (default: %(default)s)')
    parser.add_argument('--num-val', type=int, default=100, help='validation scenes (default: %(default)s)')
    parser.add_argument('--size', type=int, default=256, help='side of a scene in pixels (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='which data set (default: %(default)s)')
    options = parser.parse_args(arguments)
    try:
        print(generate(options.root, options.num_train, options.num_val, options.size, options.seed))
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
