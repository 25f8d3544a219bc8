"""What all own data have in common: the request, the names of splits, paths, class names and short listings."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from emo_mm.errors import UserError

SPLITS = ('train', 'val', 'test')

# Folder and file names that stand for a split, the most usual first.
SPLIT_NAMES = {
    'train': ('train2017', 'train', 'training'),
    'val': ('val2017', 'val', 'valid', 'validation'),
    'test': ('test2017', 'test', 'testing'),
}

# What mmpretrain's folder data set takes; the readers behind all three toolboxes decode them.
IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif')


_PATHS = ('data_root', *(f'{split}_{part}' for split in SPLITS for part in ('ann', 'images')), 'classes', 'palette')
MOUNT = (
    'mount the store as a folder (mountpoint-s3, gcsfuse, rclone mount) or copy it to a disk first (aws s3 sync, '
    'gcloud storage cp, hf download)'
)


def refuse_address(flag: str, path: str | None) -> None:
    """Refuse an address where a path is wanted.

    Args:
        flag: Where it was given, for the message.
        path: What was given.

    Raises:
        UserError: If it is an address, such as ``s3://bucket/folder``.
    """
    if path is not None and re.match(r'[A-Za-z][\w+.-]+://', path):
        raise UserError(f'{flag} {path}: trainings and tests read and write local files; {MOUNT}')


@dataclass(frozen=True)
class DataRequest:
    """Where the user's data lie, as given on the command line.

    Attributes:
        data_root: Folder of the data set. The other paths may be relative to it or to the working directory.
        train_ann: Labels of the training split: an annotation file, list or folder, as its layout has them.
        train_images: Folder of the training images; for classification the tree of class folders.
        val_ann: Annotation file or folder of masks of the validation split.
        val_images: Folder of the validation images.
        test_ann: Annotation file or folder of masks of the test split.
        test_images: Folder of the test images.
        classes: Text file of class names, one per line or ``index name``.
        split: Cut a data set without splits, or one with train only, into train, val and maybe test: 0.8/0.2 or
            0.8/0.1/0.1.
        split_seed: Another division of the same shares.
        no_groups: Divide image by image, though names that differ in their end only may be frames of one video.
        palette: Text file of the classes' colours in colour masks: ``name,red,green,blue`` on each line, or CVAT's
            ``labelmap.txt``.
        binary: Read masks as black and white: two classes, the background first.
        reduce_zero: Ignore label 0 of the masks, and let the others move down by one.
        ignore: Labels of the masks to ignore: numbers or class names.
        layout: Layout of the folder, where it may be read in several ways: ``coco``, ``yolo``, ``voc``, ... (an unknown
            name lists them).
    """

    data_root: str | None = None
    train_ann: str | None = None
    train_images: str | None = None
    val_ann: str | None = None
    val_images: str | None = None
    test_ann: str | None = None
    test_images: str | None = None
    classes: str | None = None
    split: str | None = None
    split_seed: int | None = None
    no_groups: bool = False
    palette: str | None = None
    binary: bool | None = None
    reduce_zero: bool | None = None
    ignore: tuple[str, ...] | None = None
    layout: str | None = None

    def __post_init__(self) -> None:
        """Refuse addresses.

        Raises:
            UserError: If a path is one.
        """
        for name in _PATHS:
            refuse_address(f'--{name.replace("_", "-")}', getattr(self, name))

    @property
    def given(self) -> bool:
        """Whether anything was asked for; if not, the config's own data stay."""
        return self != DataRequest()

    @property
    def only_root(self) -> bool:
        """Whether nothing but the root was given, so that the tree itself must tell the rest."""
        return self.given and self == DataRequest(data_root=self.data_root, layout=self.layout)

    @property
    def divides(self) -> bool:
        """Whether a data set without splits is to be divided.

        Raises:
            UserError: If it is told how, but not that.
        """
        if self.split is None and (self.split_seed is not None or self.no_groups):
            raise UserError('--split-seed and --no-groups say how --split divides; give it too')
        return self.split is not None

    @property
    def about_masks(self) -> list[str]:
        """The flags given that are about masks."""
        names = ('palette', 'binary', 'reduce_zero', 'ignore')
        return [name.replace('_', '-') for name in names if getattr(self, name) is not None]

    @property
    def root(self) -> Path:
        """The root folder; the working directory if none was given.

        Raises:
            UserError: If the folder does not exist.
        """
        root = Path(self.data_root or '.')
        if not root.is_dir():
            raise UserError(f'--data-root {root}: no such folder; give the folder that holds the data set')
        return root

    def ann(self, split: str) -> str | None:
        """Return the annotation path given for one split."""
        return {'train': self.train_ann, 'val': self.val_ann, 'test': self.test_ann}[split]

    def images(self, split: str) -> str | None:
        """Return the image folder given for one split."""
        return {'train': self.train_images, 'val': self.val_images, 'test': self.test_images}[split]


def needed_splits(
    request: DataRequest, training: bool, find: Callable[[DataRequest, str], object], validating: bool = True
) -> tuple[str, ...]:
    """Return the splits to resolve.

    Args:
        request: What the user gave.
        training: Whether to train (train and val are needed, test is taken if there is one) or only to test (test, or
            val where there is no test split).
        find: Looks for a split; None if it is not there.
        validating: Whether a training needs val.
    """
    given = request.ann('test') or request.images('test')
    has_test = given is not None or find(request, 'test') is not None
    if training:
        return ('train', *(['val'] if validating else []), *(['test'] if has_test else []))
    return ('test',) if has_test else ('val',)


def locate(root: Path, path: str, flag: str) -> Path:
    """Find a path given by the user, relative to the data root or else to the working directory.

    Args:
        root: The data root.
        path: What the user gave.
        flag: Name of the option, for the message.

    Raises:
        UserError: If nothing exists there.
    """
    for candidate in (root / path, Path(path)):
        if candidate.exists():
            return candidate
    raise UserError(f'{flag} {path}: found neither as {root / path} nor as {Path(path).absolute()}')


def inside(root: Path, path: Path) -> str:
    """Return a path as data sets expect it: relative to the root (posix) if under it, else absolute."""
    try:
        return path.relative_to(root).as_posix()
    except ValueError:
        try:
            return path.resolve().relative_to(root.resolve()).as_posix()
        except ValueError:
            return path.resolve().as_posix()


def files_under(folder: Path, suffixes: Sequence[str] = IMAGE_SUFFIXES) -> list[str]:
    """List the files below a folder that have one of the suffixes (any letter case), sorted, as relative paths.

    Hidden files are left out, as the toolboxes leave them out.
    """
    found = []
    for path, folders, names in os.walk(folder):
        folders.sort()
        below = os.path.relpath(path, folder)
        for name in names:
            if not name.startswith('.') and name.lower().endswith(tuple(suffixes)):
                found.append(name if below == '.' else f'{below}/{name}'.replace(os.sep, '/'))
    return sorted(found)


def shortlist(items: Iterable[object], most: int = 10) -> str:
    """Join the first items with commas and counts the rest: ``a, b and 7 more``."""
    listed = [str(item) for item in items]
    head = ', '.join(listed[:most])
    return head if len(listed) <= most else f'{head} and {len(listed) - most} more'


def count(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun: ``1 class``, ``2 classes``."""
    return f'{number} {noun if number == 1 else plural or noun + "s"}'


def chosen_classes(request: DataRequest) -> list[str] | None:
    """Return the classes of the file that the user gave; None if there is none.

    Raises:
        UserError: As ``read_classes`` does, or if it is not there.
    """
    return read_classes(locate(request.root, request.classes, '--classes')) if request.classes else None


_CVAT_LINE = re.compile(r'[^:]+:(\d+,\d+,\d+)?:[^:]*:[^:]*')


def read_classes(path: Path) -> list[str]:
    """Read class names from a text file.

    Either one name per line, in the order of the labels; or ``index name`` on every line (index 255 is the ignored
    label and is left out); or CVAT's ``name:red,green,blue:parts:actions``; or LabelMe's list, whose first line
    ``__ignore__`` stands for the ignored label. Empty lines and lines that start with ``#`` do not count.

    Raises:
        UserError: If the file cannot be read, is empty, repeats a name, or its indices are not 0, 1, 2, ...
    """
    try:
        text = path.read_text(encoding='utf-8-sig')
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'{path}: cannot be read as a text file of class names ({error})') from error
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith('#')]
    heads = [line.replace(':', ' ').replace(',', ' ').split(maxsplit=1) for line in lines]
    if lines and all(len(head) == 2 and head[0].isdecimal() for head in heads):
        numbered = sorted((int(index), name.strip()) for index, name in heads if int(index) != 255)
        if [index for index, _ in numbered] != list(range(len(numbered))):
            raise UserError(
                f'{path}: class indices must run 0, 1, 2, ... without gaps (255 is the ignored label), '
                f'but are {shortlist(index for index, _ in numbered)}'
            )
        names = [name for _, name in numbered]
    elif lines and all(_CVAT_LINE.fullmatch(line) for line in lines):
        names = [line.partition(':')[0].strip() for line in lines]
    else:
        names = lines[1:] if lines[:1] == ['__ignore__'] else lines
    if not names:
        raise UserError(f'{path}: holds no class names; write one per line')
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise UserError(f'{path}: class names must differ, but {shortlist(repeated)} is there more than once')
    return names
