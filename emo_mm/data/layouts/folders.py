"""Classification data as a tree of class folders, ``{train,val,test}/<class>/<image>``, or as tables of labels.

mmpretrain reads such a tree by itself, and does so where it finds the same as is found here. Otherwise it is given a
list: where there are folders that are no classes, images of other types, a split without some class, or a table.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from emo_mm.config.edits import Change, Edit
from emo_mm.config.parts import image_prefixes, inherits, type_name
from emo_mm.config.view import ConfigView, inner_parts
from emo_mm.data.faults import Content, Fault
from emo_mm.data.files.cache import CheckCache
from emo_mm.data.files.check import check_files
from emo_mm.data.labelled import ClassLabel, LabelledImage
from emo_mm.data.layouts.base import (
    Checked,
    Found,
    Layout,
    LayoutError,
    Names,
    NeedsConfigError,
    Reading,
    listed_lines,
    same_folders,
)
from emo_mm.data.layouts.label_table import is_table, read_table
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
)
from emo_mm.data.splitting import Item
from emo_mm.errors import UserError

# Images all the same, but not of the types that mmpretrain's folder data set takes; those that can be read are listed.
OTHER_SUFFIXES = ('.webp', '.tiff', '.gif', '.heic', '.avif', '.jfif')
_SUFFIXES = {*IMAGE_SUFFIXES, *OTHER_SUFFIXES}
_JUNK = {'__macosx', '@eadir', '$recycle.bin', 'system volume information', 'lost+found', '__pycache__'}
_JUNK_FILES = {'thumbs.db', 'desktop.ini'}
# Folders of other layouts, which alone are no classes.
_OF_OTHERS = {'images', 'annotations', 'labels', 'masks', 'img_dir', 'ann_dir', 'jpegimages', 'segmentationclass'}
_MUCH = 0.05  # of the images left out is said loudly

_WORDNET_ID = re.compile(r'n\d{8}')
_IMAGENET_CLASSES = 1000


@dataclass(frozen=True)
class ClassFolders:
    """The images of a split by class, from class folders or from a table of labels.

    Attributes:
        folder: The folder that their names start from.
        files: Names of the images of each class, in label order.
        unread: Images of types that cannot be read here.
        ignored: Folders and files of systems and programs, which are no classes and no images.
        plain: Whether mmpretrain finds the same by itself.
        table: The table of labels that they come from; None for class folders.
    """

    folder: Path
    files: dict[str, tuple[str, ...]]
    unread: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    plain: bool = True
    table: Path | None = None

    @property
    def images(self) -> dict[str, int]:
        """The number of images of each class."""
        return {name: len(files) for name, files in self.files.items()}

    @property
    def source(self) -> Path:
        """What says which class an image has: the table, or the folder itself."""
        return self.table or self.folder

    def counts(self) -> str:
        """Return images and classes in words."""
        listed = shortlist(f'{name} {number}' for name, number in self.images.items())
        total = count(sum(self.images.values()), 'image')
        return f'{total}, {count(len(self.images), "class", "classes")}: {listed}'


@dataclass(frozen=True)
class FolderSplit(Checked):
    """One split of a classification data set, checked.

    Attributes:
        folder: Its folder, relative to the root where it lies under it.
        part: What lies there.
        notes: Oddities that are no faults.
        split: Its name.
        listed: Whether it needs a list: mmpretrain would not find the same by itself.
    """

    folder: str
    part: ClassFolders
    notes: tuple[str, ...] = ()
    split: str = ''
    listed: bool = False

    def line(self) -> str:
        """Return the folder, its images and classes."""
        return f'{self.folder}: {self.part.counts()}'

    def detail(self) -> str:
        """Return the same, the folder last."""
        return f'{self.part.counts()} (in {self.folder})'

    def list_in(self, folder: Path) -> Path:
        """Return where its list lies in a folder of lists."""
        return folder / f'list_{self.split}.txt'


class FolderLayout(Layout[Path, ClassFolders, FolderSplit]):
    """A folder per class."""

    name = 'class folders'
    looks_like = 'train/<class>/<image> with val/<class>/<image>'
    sources: ClassVar[Mapping[str, str]] = {
        'ImageNet': 'ImageNet-1K: ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar from '
        'https://image-net.org/challenges/LSVRC/2012/ (free account), the images of both in one folder per class.',
    }

    # --- a folder
    def find(self, request: DataRequest, split: str) -> Path | None:
        """Return the folder of a split; one without class folders is no test split but unlabelled."""
        if (table := request.ann(split)) and is_table(table):
            return locate(request.root, table, f'--{split}-ann')
        if given := request.images(split):
            return locate(request.root, given, f'--{split}-images')
        folders = [folder for name in SPLIT_NAMES[split] if (folder := request.root / name).is_dir()]
        tables = [path for name in SPLIT_NAMES[split] if (path := request.root / f'{name}.csv').is_file()]
        with_classes = [folder for folder in folders if any(path.is_dir() for path in folder.iterdir())]
        return next(iter([*with_classes, *tables, *(folders if split != 'test' else ())]), None)

    def absent(self, root: Path, split: str) -> UserError:
        """Return the error for a split without a folder."""
        return UserError(
            f'{root}: no folder of the {split} split found; expected is {split}/<class>/<image>. Move a part of the '
            f'images there, or give the folder with --{split}-images DIR'
        )

    def read(self, place: Path, tolerant: bool) -> ClassFolders:
        """Return the class folders and their images, counted."""
        if place.is_file():
            folder, files = read_table(place)
            return ClassFolders(folder, files, plain=False, table=place)
        return scan(place)

    def agree(self, root: Path, parts: Mapping[str, ClassFolders], request: DataRequest, tolerant: bool) -> Names:
        """Return the names of the class folders, sorted, which all splits must share."""
        for split in SPLITS:
            if (given := request.ann(split)) and not is_table(given):
                raise UserError(
                    f'--{split}-ann {given}: classification reads no annotation file but a table of images and labels '
                    f'(.csv); give the class folders of the {split} split with --{split}-images DIR'
                )
        first, *others = parts.values()
        if 'train' in parts:
            names = tuple(first.images)
            if len(names) == 1:
                raise UserError(
                    f'{first.source}: has one class only, {names[0]}, and there is nothing to tell it from; add a '
                    'folder with images of everything else'
                )
        else:
            names = self._trained(request, first)
        for other in others:
            if new := other.images.keys() - set(names):
                raise UserError(
                    f'{other.source}: its classes differ from those of {first.source}: '
                    f'missing are {shortlist(sorted(set(names) - other.images.keys())) or "none"}, '
                    f'new are {shortlist(sorted(new))}; what train does not have cannot be learnt: add it there, or '
                    f'take it out of {other.source.name}'
                )
        if request.classes:
            path = locate(root, request.classes, '--classes')
            if sorted(read_classes(path)) != sorted(first.images):
                raise UserError(
                    f'{path}: the classes of this tree are its folders, {shortlist(first.images)}; leave --classes out'
                )
        return Names(names)

    def _trained(self, request: DataRequest, tested: ClassFolders) -> tuple[str, ...]:
        """Return the classes of a test: those of the train split, where it is there and has them all."""
        place = self.find(request, 'train')
        if place is None:
            return tuple(tested.files)
        trained = tuple(read_table(place)[1]) if place.is_file() else class_names(place)
        return trained if set(trained) >= tested.files.keys() else tuple(tested.files)

    def check(self, root: Path, split: str, part: ClassFolders, names: Names, tolerant: bool) -> FolderSplit:
        """Check that each class has an image to train on."""
        empty = [name for name, number in part.images.items() if not number]
        if split == 'train' and empty:
            raise LayoutError(
                f'{part.source}: no image of {shortlist(empty)}',
                'add some or delete the folder in every split',
                'rmdir ' + ' '.join(shlex.quote(str(part.folder / name)) for name in empty),
            )
        listed = not part.plain or tuple(part.files) != names.classes
        return FolderSplit(inside(root, part.folder), part, tuple(_notes(part, names.classes)), split, listed)

    # --- a folder without splits
    divisible = True

    def undivided(self, request: DataRequest) -> Path | None:
        """Return the root, where it holds class folders itself, or a table of labels there."""
        root = request.root
        tables = [table for name in ('labels', 'data', 'annotations') if (table := root / f'{name}.csv').is_file()]
        split_names = {name for names in SPLIT_NAMES.values() for name in names}
        names = class_names(root)
        classes = [name for name in names if name.lower() not in _OF_OTHERS and files_under(root / name, (*_SUFFIXES,))]
        return next(iter([*([root] if classes and split_names.isdisjoint(names) else []), *tables]), None)

    def items(self, part: ClassFolders) -> list[Item]:
        """Return the images, class by class."""
        return [Item(file, frozenset((name,))) for name, files in part.files.items() for file in files]

    def subset(self, part: ClassFolders, kept: Sequence[int], target: Path) -> ClassFolders:
        """Return some of the images; a class may have none of them."""
        pairs = [(name, file) for name, files in part.files.items() for file in files]
        files: dict[str, list[str]] = {name: [] for name in part.files}
        for name, file in (pairs[index] for index in kept):
            files[name].append(file)
        return replace(part, files={name: tuple(some) for name, some in files.items()}, plain=False)

    def texts(self, found: Found[FolderSplit]) -> dict[Path, str]:
        """Return lists of images and labels where mmpretrain would not find the same by itself."""
        number = {name: label for label, name in enumerate(found.classes)}
        return {
            split.list_in(found.derived): ''.join(
                f'{_not_blank(file)} {number[name]}\n' for name, files in split.part.files.items() for file in files
            )
            for split in found.splits.values()
            if split.listed
        }

    # --- what is shown of a folder
    def labelled(self, found: Found[FolderSplit], split: FolderSplit) -> Iterator[LabelledImage]:
        """Yield the images with their classes, class by class."""
        number = {name: label for label, name in enumerate(found.classes)}
        for name, files in split.part.files.items():
            for file in files:
                yield LabelledImage(split.part.folder / file, ClassLabel(number[name]))

    def look(self, place: Path) -> str:
        """Return the command that lists the class folders."""
        return f'find {shlex.quote(str(place))} -maxdepth 2'

    # --- a folder in a config
    def kept(self, view: ConfigView, request: DataRequest) -> list[str] | None:
        """Keep a config that reads the same folders, which hold the classes that it expects."""
        same = same_folders(view, request) and _same_classes(view, request.root)
        return [] if same else None

    def point(self, reading: Reading, found: Found[FolderSplit], split: FolderSplit) -> tuple[Edit, ...]:
        """Give a data set its folder and classes."""
        part = reading.part
        folder = part.edit(
            type='CustomDataset',
            data_root=found.root.as_posix(),
            data_prefix=split.folder,
            ann_file=split.list_in(found.derived).as_posix() if split.listed else '',
            with_label=True,
            metainfo={'classes': found.classes},
        )
        return (*part.remove('split', 'classes'), *folder)

    def finish(self, view: ConfigView, found: Found[FolderSplit]) -> Change:
        """Drop top-k accuracies that say nothing, where k is not below the number of classes (top-1 always stays)."""
        number = len(found.classes)
        places = ('val_evaluator', 'test_evaluator', 'model')
        every = [part for place in places for part in inner_parts(view.cfg.get(place), place)]
        ranked = [part for part in every if isinstance(part.node.get('topk'), (tuple, list))]
        dropped = sorted({k for part in ranked for k in part.node['topk'] if k >= max(number, 2)})
        kept = [part.edit(topk=tuple(k for k in part.node['topk'] if k not in dropped) or (1,)) for part in ranked]
        words = f'top-{shortlist(dropped)} accuracy left out, there are {number} classes'
        return Change(tuple(edit for edits in kept for edit in edits), (words,) if dropped else ())

    # --- a config that names its data
    def reads(self, reading: Reading) -> bool:
        """Tell whether the type is mmpretrain's for folders, or ImageNet's, which is made from it."""
        return inherits(reading.dataset, reading.scope, ('CustomDataset',))

    def needs(self, reading: Reading) -> list[Path]:
        """Return the folder."""
        return [_folder(reading)]

    def expected(self, dataset: dict[str, Any]) -> list[str]:
        """Return a path that tells where images lie, or the list and the folder."""
        if dataset.get('ann_file'):
            return super().expected(dataset)
        return [f'{folder}<class>/<image>' for folder in super().expected(dataset)]

    def fits(self, view: ConfigView, reading: Reading, tolerant: bool) -> list[str]:
        """Check that there are as many folders as classes; labels from a list are not checked here."""
        split, folder, listed, classes = reading.split, _folder(reading), _label_list(reading), reading.classes
        if listed.is_file():  # mmpretrain reads the labels from such a list instead of from folder names
            return [f'{split}: {folder}: labels are read from {listed}, which is not checked']
        part = scan(folder)
        if junk := [name for name in part.ignored if (folder / name).is_dir()]:
            raise UserError(
                f'{folder / junk[0]}: a folder that is no class, which mmpretrain would take for one; delete it, or '
                'give the data set with --data-root DIR'
            )
        if classes and len(part.images) != len(classes):
            raise UserError(
                f'{folder}: has {len(part.images)} class folders but the config has {len(classes)} classes; with '
                '--data-root DIR the classes are read from the folders'
            )
        return [f'{split}: {FolderSplit(folder.as_posix(), part).line()}']

    def content(self, reading: Reading, check: str, cache: CheckCache | None) -> Content:
        """Check each image, and the labels where they are read from a list."""
        if not reading.dataset.get('with_label', True) or reading.dataset.get('split') == 'test':
            return Content([], {})
        folder, listed, classes = _folder(reading), _label_list(reading), reading.classes
        if listed.is_file():
            names = tuple(listed_lines(listed))
        else:
            numbered = enumerate(scan(folder).files.values())
            names = tuple(f'{file} {label}' for label, files in numbered for file in files)
        faults = []
        paths = [(folder / name.rpartition(' ')[0]).as_posix() for name in names]
        for index, (path, answer) in enumerate(zip(paths, check_files(paths, check, cache), strict=True)):
            label = names[index].rpartition(' ')[2]
            if answer.kind:
                faults.append(Fault(reading.split, answer.kind, path, answer.detail, ('images', index)))
            if not label.isdecimal() or (classes and int(label) >= len(classes)):
                detail = f'{label} in {listed.name}; declared are 0 to {len(classes or ()) - 1}'
                faults.append(Fault(reading.split, 'undeclared label', path, detail, ('images', index)))
        return Content(faults, {'images': len(names)}, names)


FOLDERS = FolderLayout()


def class_names(folder: Path) -> tuple[str, ...]:
    """Return the names of the class folders in a folder, in label order; other folders are left out."""
    if not folder.is_dir():
        return ()
    return tuple(sorted(path.name for path in folder.iterdir() if path.is_dir() and not _is_junk(path.name)))


def scan(folder: Path) -> ClassFolders:
    """Return the class folders of a folder, and the images below each.

    Raises:
        NeedsConfigError: If there are no class folders, but a list of labels as ImageNet has it.
        UserError: If there are no class folders, or no images in them.
    """
    names = class_names(folder)
    if not names:
        fault = f'{folder}: holds no class folders; expected is {folder.name}/<class>/<image>'
        listed = folder.parent / 'meta' / f'{folder.name}.txt'
        raise NeedsConfigError(f'{fault}, or a config that reads {listed}') if listed.is_file() else UserError(fault)
    below, junk, hidden_images = _walk(folder)
    others = [file for some in below.values() for file in some if file.lower().endswith(OTHER_SUFFIXES)]
    readable = _readable_suffixes(folder, others)
    files = {name: tuple(file for file in below.get(name, ()) if _suffix(file) in readable) for name in names}
    if not any(files.values()):
        raise UserError(f'{folder}: the class folders hold no image ({", ".join(IMAGE_SUFFIXES)})')
    unread = tuple(file for file in others if _suffix(file) not in readable)
    plain = not hidden_images and len(unread) == len(others) and not any((folder / name).is_dir() for name in junk)
    return ClassFolders(folder, files, unread, junk, plain)


def _walk(folder: Path) -> tuple[dict[str, list[str]], tuple[str, ...], bool]:
    """Look through a folder once.

    Returns:
        The images below each class folder, of all types, relative to the folder; the folders and files of systems and
        programs; and whether there are images in such folders, which mmpretrain would read.
    """
    images: dict[str, list[str]] = {}
    junk, hidden_images = [], False
    for path, folders, names in os.walk(folder):
        above = os.path.relpath(path, folder).replace(os.sep, '/')
        prefix = '' if above == '.' else f'{above}/'
        odd = [name for name in folders if _is_junk(name)]
        folders[:] = [name for name in folders if name not in odd]
        hidden_images = hidden_images or any(files_under(Path(path, name)) for name in odd)
        odd += [name for name in names if name.startswith('.') or name.lower() in _JUNK_FILES]
        junk += [f'{prefix}{name}' for name in odd]
        if prefix:
            found = [f'{prefix}{name}' for name in names if _suffix(name) in _SUFFIXES and name not in odd]
            images.setdefault(above.split('/')[0], []).extend(found)
    return {name: sorted(files) for name, files in images.items()}, tuple(sorted(junk)), hidden_images


def _readable_suffixes(folder: Path, others: Sequence[str]) -> set[str]:
    """Return the types of images that can be read here: those of mmpretrain's list, and others where some file can."""
    readable = set(IMAGE_SUFFIXES)
    for suffix in {_suffix(file) for file in others}:
        probes = [(folder / file).as_posix() for file in others if _suffix(file) == suffix][:3]
        if any(not answer.kind for answer in check_files(probes, 'full')):
            readable.add(suffix)
    return readable


def _is_junk(name: str) -> bool:
    return name.startswith('.') or name.lower() in _JUNK


def _suffix(file: str) -> str:
    return PurePosixPath(file).suffix.lower()


def _not_blank(file: str) -> str:
    """Return a name that does not begin with a blank, which mmpretrain would strip off."""
    return file if file[:1].strip() else f'./{file}'


def _notes(part: ClassFolders, classes: Collection[str]) -> list[str]:
    """Return what a user should know of a split that can be used all the same."""
    notes = []
    if part.unread:
        share = len(part.unread) / (len(part.unread) + sum(part.images.values()))
        loud = f'WARNING, {share:.0%} of the images: ' if share > _MUCH else ''
        files = f'{count(len(part.unread), "file")} left out, not to be read here: {shortlist(part.unread, 3)}'
        notes.append(f'{part.folder}: {loud}{files}; convert them to .jpg or .png')
    if part.ignored:
        notes.append(f'{part.folder}: ignored, as hidden or no folder of images: {shortlist(part.ignored, 3)}')
    if absent := [name for name in classes if not part.files.get(name)]:
        notes.append(f'{part.source}: no image of {shortlist(absent)}; the classes keep their numbers from train')
    return notes


def _folder(reading: Reading) -> Path:
    return reading.path(image_prefixes(reading.dataset)[0])


def _label_list(reading: Reading) -> Path:
    """Return where a list of labels would be: as the config says, or as ImageNet's data set looks for it."""
    dataset = reading.dataset
    return reading.path(dataset.get('ann_file') or f'meta/{dataset.get("split")}.txt')


def _same_classes(view: ConfigView, root: Path) -> bool:
    """Tell whether the classes the config expects are those of the tree: the same names, or all of ImageNet's."""
    split = 'train' if view.training else 'test'
    dataset = view.only_dataset(split).node
    folders = [root / image_prefixes(one.datasets[0].node)[0] for one in view.read_splits if one.datasets]
    names = sorted(path.name for path in (root / image_prefixes(dataset)[0]).iterdir() if path.is_dir())
    if any(sorted(path.name for path in folder.iterdir() if path.is_dir()) != names for folder in folders):
        return False
    if not names:  # flat folders with a list of labels in meta/, a layout of ImageNet too
        return (root / 'meta').is_dir()
    if type_name(dataset) == 'ImageNet':
        return len(names) == _IMAGENET_CLASSES and all(_WORDNET_ID.fullmatch(name) for name in names)
    return tuple(names) == Reading(split, dataset, view.task).classes
