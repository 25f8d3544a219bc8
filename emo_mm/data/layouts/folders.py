"""Classification data as a tree of class folders: counts images per class and checks that the splits agree."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from emo_mm.data.splits import (
    IMAGE_SUFFIXES,
    SPLIT_NAMES,
    SPLITS,
    DataRequest,
    count,
    files_under,
    inside,
    locate,
    read_classes,
    shortlist,
    wanted_splits,
)
from emo_mm.errors import UserError

# Images all the same, but not of the types that mmpretrain's folder data set lists.
UNREAD_SUFFIXES = ('.webp', '.tiff', '.gif', '.heic', '.avif', '.jfif')


@dataclass(frozen=True)
class FolderSplits:
    """A classification data set, checked.

    Attributes:
        root: Its folder.
        classes: Class names in label order: the folder names, sorted.
        splits: Folder of each split found (``train``, ``val``, ``test``), relative to the root where it lies under it.
        images: Number of images per split and class.
        notes: Oddities that are no faults.
    """

    root: Path
    classes: tuple[str, ...]
    splits: dict[str, str]
    images: dict[str, dict[str, int]]
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The counts of images, a line per split."""
        found = [summary(split, folder, self.images[split]) for split, folder in self.splits.items()]
        return found + [f'  note: {note}' for note in self.notes]


def summary(split: str, folder: str, images: dict[str, int]) -> str:
    """One line on a split: images and classes."""
    listed = shortlist(f'{name} {number}' for name, number in images.items())
    total = count(sum(images.values()), 'image')
    return f'{split}: {folder}: {total}, {count(len(images), "class", "classes")}: {listed}'


def count_images(folder: Path) -> dict[str, int]:
    """Counts the images below each class folder, in label order.

    Raises:
        UserError: There are no class folders, or no images in them.
    """
    folders = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    hidden = [name for name in folders if name.startswith('.')]
    if hidden:
        raise UserError(f'{folder / hidden[0]}: a hidden folder, which mmpretrain would take for a class; delete it')
    if not folders:
        raise UserError(f'{folder}: holds no class folders; wanted is {folder.name}/<class>/<image>')
    images = {name: len(files_under(folder / name)) for name in folders}
    if not any(images.values()):
        raise UserError(f'{folder}: the class folders hold no image ({", ".join(IMAGE_SUFFIXES)})')
    return images


def find_split(root: Path, split: str) -> Path | None:
    """Finds the folder of a split by its usual names; one without class folders is no test split but unlabelled."""
    for name in SPLIT_NAMES[split]:
        folder = root / name
        if folder.is_dir() and (split != 'test' or any(path.is_dir() for path in folder.iterdir())):
            return folder
    return None


def resolve_folders(request: DataRequest, training: bool = True) -> FolderSplits:
    """Finds and checks the splits of a tree ``{train,val,test}/<class>/<image>``.

    Args:
        request: The data root and what overrides the search (``*_images``: the tree of a split).
        training: Whether train and val are needed (test is taken if there is one), or only test (val if there is none).

    Raises:
        UserError: A split cannot be found or is empty, a class has no training image, or the splits disagree.
    """
    root = request.root
    _no_annotation_files(request)
    found: dict[str, Path] = {}
    for split in wanted_splits(request, training, find_split):
        given = request.images(split)
        path = locate(root, given, f'--{split}-images') if given else find_split(root, split)
        if path is None:
            raise UserError(
                f'{root}: no folder of the {split} split found; wanted is {split}/<class>/<image>. Move a part of the '
                f'images there, or give the folder with --{split}-images DIR'
            )
        found[split] = path
    images = {split: count_images(path) for split, path in found.items()}
    first, *others = images
    for other in others:
        if images[other].keys() != images[first].keys():
            raise UserError(
                f'{found[other]}: its class folders differ from those of {found[first]}: '
                f'missing are {shortlist(sorted(images[first].keys() - images[other].keys())) or "none"}, '
                f'new are {shortlist(sorted(images[other].keys() - images[first].keys())) or "none"}; labels are '
                'numbered by folder, so both need the same ones (a class without images needs an empty folder)'
            )
    empty = [name for name, number in images[first].items() if not number]
    if first == 'train' and empty:
        raise UserError(f'{found[first]}: no image of {shortlist(empty)}; add some or delete the folder in every split')
    classes = tuple(images[first])
    if request.classes:
        path = locate(root, request.classes, '--classes')
        if sorted(read_classes(path)) != sorted(classes):
            raise UserError(
                f'{path}: the classes of this tree are its folders, {shortlist(classes)}; leave --classes out'
            )
    notes = []
    for path in found.values():
        unread = files_under(path, UNREAD_SUFFIXES)
        if unread:
            notes.append(
                f'{path}: {count(len(unread), "file")} left out: mmpretrain does not read {shortlist(unread, 3)}'
            )
    folders = {split: inside(root, path) for split, path in found.items()}
    return FolderSplits(root, classes, folders, images, tuple(notes))


def _no_annotation_files(request: DataRequest) -> None:
    for split in SPLITS:
        if request.ann(split):
            raise UserError(
                f'--{split}-ann {request.ann(split)}: classification reads no annotation file, labels are the class '
                f'folders; give the tree of the {split} split with --{split}-images DIR'
            )
