"""Classification data as a tree of class folders, ``{train,val,test}/<class>/<image>``."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from emo_mm.config.edits import Change, Edit
from emo_mm.config.parts import image_prefixes, inherits, type_name
from emo_mm.config.view import ConfigView, inner_parts
from emo_mm.data.faults import Content, Fault
from emo_mm.data.files.cache import CheckCache
from emo_mm.data.files.check import check_files
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
from emo_mm.errors import UserError

if TYPE_CHECKING:
    pass

# Images all the same, but not of the types that mmpretrain's folder data set lists.
UNREAD_SUFFIXES = ('.webp', '.tiff', '.gif', '.heic', '.avif', '.jfif')

_WORDNET_ID = re.compile(r'n\d{8}')
_IMAGENET_CLASSES = 1000


@dataclass(frozen=True)
class ClassFolders:
    """The class folders of a split.

    Attributes:
        folder: The folder that they lie in.
        images: Number of images below each, in label order.
        unread: Images of types that mmpretrain does not read.
    """

    folder: Path
    images: dict[str, int]
    unread: tuple[str, ...] = ()

    def counts(self) -> str:
        """Return images and classes in words."""
        listed = shortlist(f'{name} {number}' for name, number in self.images.items())
        total = count(sum(self.images.values()), 'image')
        return f'{total}, {count(len(self.images), "class", "classes")}: {listed}'


@dataclass(frozen=True)
class FolderSplit(Checked):
    """One split of a tree of class folders, checked.

    Attributes:
        folder: Its folder, relative to the root where it lies under it.
        part: What lies there.
        notes: Oddities that are no faults.
    """

    folder: str
    part: ClassFolders
    notes: tuple[str, ...] = ()

    def line(self) -> str:
        """Return the folder, its images and classes."""
        return f'{self.folder}: {self.part.counts()}'

    def detail(self) -> str:
        """Return the same, the folder last."""
        return f'{self.part.counts()} (in {self.folder})'


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
        if given := request.images(split):
            return locate(request.root, given, f'--{split}-images')
        for folder in (request.root / name for name in SPLIT_NAMES[split]):
            if folder.is_dir() and (split != 'test' or any(path.is_dir() for path in folder.iterdir())):
                return folder
        return None

    def absent(self, root: Path, split: str) -> UserError:
        """Return the error for a split without a folder."""
        return UserError(
            f'{root}: no folder of the {split} split found; expected is {split}/<class>/<image>. Move a part of the '
            f'images there, or give the folder with --{split}-images DIR'
        )

    def read(self, place: Path, tolerant: bool) -> ClassFolders:
        """Return the class folders and their images, counted."""
        return ClassFolders(place, count_images(place), tuple(files_under(place, UNREAD_SUFFIXES)))

    def agree(self, root: Path, parts: Mapping[str, ClassFolders], request: DataRequest, tolerant: bool) -> Names:
        """Return the names of the class folders, sorted, which all splits must share."""
        for split in SPLITS:
            if request.ann(split):
                raise UserError(
                    f'--{split}-ann {request.ann(split)}: classification reads no annotation file, labels are the '
                    f'class folders; give the tree of the {split} split with --{split}-images DIR'
                )
        first, *others = parts.values()
        for other in others:
            if other.images.keys() != first.images.keys():
                raise UserError(
                    f'{other.folder}: its class folders differ from those of {first.folder}: '
                    f'missing are {shortlist(sorted(first.images.keys() - other.images.keys())) or "none"}, '
                    f'new are {shortlist(sorted(other.images.keys() - first.images.keys())) or "none"}; labels are '
                    'numbered by folder, so both need the same ones (a class without images needs an empty folder)'
                )
        if request.classes:
            path = locate(root, request.classes, '--classes')
            if sorted(read_classes(path)) != sorted(first.images):
                raise UserError(
                    f'{path}: the classes of this tree are its folders, {shortlist(first.images)}; leave --classes out'
                )
        return Names(tuple(first.images))

    def check(self, root: Path, split: str, part: ClassFolders, names: Names, tolerant: bool) -> FolderSplit:
        """Check that each class has an image to train on."""
        empty = [name for name, number in part.images.items() if not number]
        if split == 'train' and empty:
            raise LayoutError(
                f'{part.folder}: no image of {shortlist(empty)}',
                'add some or delete the folder in every split',
                'rmdir ' + ' '.join(shlex.quote(str(part.folder / name)) for name in empty),
            )
        notes: tuple[str, ...] = ()
        if part.unread:
            unread = f'{count(len(part.unread), "file")} left out: mmpretrain does not read {shortlist(part.unread, 3)}'
            notes = (f'{part.folder}: {unread}',)
        return FolderSplit(inside(root, part.folder), part, notes)

    # --- what the doctor shows beyond that
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
            ann_file='',
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
        part = ClassFolders(folder, count_images(folder))
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
            numbered = enumerate(count_images(folder))
            names = tuple(f'{name}/{file} {label}' for label, name in numbered for file in files_under(folder / name))
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


def count_images(folder: Path) -> dict[str, int]:
    """Count the images below each class folder, in label order.

    Raises:
        NeedsConfigError: If there are no class folders, but a list of labels as ImageNet has it.
        UserError: If there are no class folders, or no images in them.
    """
    folders = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    hidden = [name for name in folders if name.startswith('.')]
    if hidden:
        raise UserError(f'{folder / hidden[0]}: a hidden folder, which mmpretrain would take for a class; delete it')
    if not folders:
        fault = f'{folder}: holds no class folders; expected is {folder.name}/<class>/<image>'
        listed = folder.parent / 'meta' / f'{folder.name}.txt'
        raise NeedsConfigError(f'{fault}, or a config that reads {listed}') if listed.is_file() else UserError(fault)
    images = {name: len(files_under(folder / name)) for name in folders}
    if not any(images.values()):
        raise UserError(f'{folder}: the class folders hold no image ({", ".join(IMAGE_SUFFIXES)})')
    return images


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
    names = sorted(path.name for path in (root / image_prefixes(dataset)[0]).iterdir() if path.is_dir())
    if not names:  # flat folders with a list of labels in meta/, a layout of ImageNet too
        return (root / 'meta').is_dir()
    if type_name(dataset) == 'ImageNet':
        return len(names) == _IMAGENET_CLASSES and all(_WORDNET_ID.fullmatch(name) for name in names)
    return tuple(names) == Reading(split, dataset, view.task.scope).classes
