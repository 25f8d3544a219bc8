"""What a layout of a data set is: the steps that every layout has, and what the steps hand to each other.

On a folder (``resolve`` for a training or a test, ``emo_mm.data.examine`` for the doctor, ``emo_mm.data.folder`` to
show it) the steps are: *find* each split, *read* it, let the splits *agree* on the classes, *check* each of them. What
was found is *pointed* to in a config, or given as *labelled* images. On a config that names its data the steps are:
*needs* (what must exist), *fits* (does it fit the config), *content* (is each image sound), *without* (leave out what
is not).
"""

from __future__ import annotations

import shlex
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from emo_mm.config.edits import Change, Edit, NewFile, Part
from emo_mm.config.parts import dataset_classes, image_prefixes, path_in
from emo_mm.config.view import ConfigView
from emo_mm.data.derived import DERIVED
from emo_mm.data.faults import Content
from emo_mm.data.files.cache import CheckCache
from emo_mm.data.labelled import LabelledImage
from emo_mm.data.splits import SPLITS, DataRequest, count, needed_splits, shortlist
from emo_mm.data.splitting import SEED, Item, divide, parse_ratios
from emo_mm.errors import UserError
from emo_mm.files import atomic_write
from emo_mm.tasks import Task

Colour = tuple[int, int, int]


class LayoutError(UserError):
    """A fault of a data set, with what the doctor says of it.

    Args:
        fault: What is wrong.
        advice: What can be done about it; the doctor prints ``fix`` instead.
        fix: The shell command that fixes the fault, or shows more of it; empty for the layout's own way to look.

    Attributes:
        fault: As given.
        fix: As given.
    """

    def __init__(self, fault: str, advice: str = '', fix: str = '') -> None:
        super().__init__(f'{fault}; {advice}' if advice else fault)
        self.fault = str(UserError(fault))
        self.fix = fix


@dataclass(frozen=True)
class Names:
    """The classes of a data set.

    Attributes:
        classes: Class names in label order.
        palette: A colour (R, G, B in 0..255) per class, where colours matter.
        source: Where the names come from, in words, where that is not plain from the layout.
    """

    classes: tuple[str, ...]
    palette: Sequence[Colour] = ()
    source: str = ''


class NeedsConfigError(LayoutError):
    """A folder that only a config can make sense of, which knows the class names or has a list of the labels.

    Args:
        fault: What the folder does not tell.
        advice: What can be done about it.
        names: Names that stand for those of such a config, so that the rest can be checked.
    """

    def __init__(self, fault: str, advice: str = '', names: Names = Names(())) -> None:
        super().__init__(fault, advice)
        self.names = names


@dataclass(frozen=True)
class Reading:
    """A data set that a config reads for a split.

    Attributes:
        split: ``train``, ``val`` or ``test``.
        dataset: The part of the config, without wrappers.
        task: The task that reads it; None where none does yet.
        place: Dotted keys that lead to the part in the config.
    """

    split: str
    dataset: dict[str, Any]
    task: Task | None
    place: str = 'dataset'

    @property
    def part(self) -> Part:
        """The part of the config, to be edited."""
        return Part(self.place, self.dataset)

    @property
    def scope(self) -> str:
        """The toolbox whose data set it is; empty where none reads it yet."""
        return '' if self.task is None else self.task.scope

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The class names that the config gives or the type declares; None if the data set finds them by itself."""
        return dataset_classes(self.dataset, self.scope)

    def path(self, path: str) -> Path:
        """Return where a path of the data set leads."""
        return path_in(self.dataset, path)


class Checked(ABC):
    """A split that was found and checked.

    Attributes:
        notes: Oddities that are no faults.
    """

    notes: tuple[str, ...]

    @abstractmethod
    def line(self) -> str:
        """Return what a training prints: where the split lies, what was counted."""

    @abstractmethod
    def detail(self) -> str:
        """Return what the doctor prints after the name of the split."""


@dataclass(frozen=True)
class Left:
    """A data set without some of its entries.

    Attributes:
        path: The list of what is left, which is written.
        words: How many entries were left out.
        edits: The edits that let a config read it.
    """

    path: Path
    words: str
    edits: tuple[Edit, ...]


@dataclass(frozen=True)
class Boxes:
    """The boxes that a detector is trained on.

    Attributes:
        places: Left, top, width and height of each box in pixels of its image, (N, 4).
        images: Width and height of the image of each box in pixels, (N, 2).
        classes: Class of each box, (N,).
    """

    places: NDArray[np.float64]
    images: NDArray[np.float64]
    classes: NDArray[np.str_]

    def __len__(self) -> int:
        """Return the number of boxes."""
        return len(self.places)

    def at(self, chosen: NDArray[Any]) -> Boxes:
        """Return the boxes at some indices, or those that a mask chooses."""
        return Boxes(self.places[chosen], self.images[chosen], self.classes[chosen])


PlaceT = TypeVar('PlaceT')
PartT = TypeVar('PartT')
CheckedT = TypeVar('CheckedT', bound=Checked)


@dataclass(frozen=True)
class Found(Generic[CheckedT]):
    """A data set in a folder, checked.

    Attributes:
        root: The folder.
        names: Its classes.
        splits: The splits found, by name (``train``, ``val``, ``test``).
        derived: Folder for what a run reads in place of files of the user, such as converted masks.
        told: What else a user should read about the splits.
    """

    root: Path
    names: Names
    splits: dict[str, CheckedT]
    derived: Path = Path(DERIVED)
    told: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names in label order."""
        return self.names.classes

    def split(self, name: str) -> CheckedT:
        """Return a split; that of ``val`` where there is no such one, or else that of ``train``."""
        return next(self.splits[one] for one in (name, 'val', 'train') if one in self.splits)

    def lines(self) -> list[str]:
        """Return lines to print: where the classes come from, and what each split holds."""
        lines = list(self.told)
        if self.names.source:
            number = count(len(self.classes), 'class', 'classes')
            lines.append(f'{number} from {self.names.source}: {shortlist(self.classes)}')
        for name, split in self.splits.items():
            lines += [f'{name}: {split.line()}', *(f'  note: {note}' for note in split.notes)]
        return lines


class Layout(ABC, Generic[PlaceT, PartT, CheckedT]):
    """A way in which data sets lie in folders. One object of it is all that the package knows of the layout.

    The type variables are where a split lies, what is read from there, and what the check makes of it.

    Attributes:
        name: For messages: "COCO annotation files".
        looks_like: Where its files lie: "annotations/train.json with images/".
        of_configs: Whether configs may name data sets of it; if not, it is only found in folders.
        sources: Types of published data sets that it reads, to where they are had; their terms forbid passing them on.
        has_masks: Whether what the request says of masks means something here.
    """

    name: ClassVar[str]
    looks_like: ClassVar[str]
    sources: ClassVar[Mapping[str, str]] = {}
    has_masks: ClassVar[bool] = False
    of_configs: ClassVar[bool] = True

    # --- a folder
    @abstractmethod
    def find(self, request: DataRequest, split: str) -> PlaceT | None:
        """Return where a split lies: as the request says, else by the usual names; None if it is not there.

        Raises:
            UserError: If what the request names is not there, or several places may be meant.
        """

    @abstractmethod
    def absent(self, root: Path, split: str) -> UserError:
        """Return the error for a split that is not there."""

    @abstractmethod
    def read(self, place: PlaceT, tolerant: bool) -> PartT:
        """Return what lies at the place of a split.

        Args:
            place: Where it lies.
            tolerant: Whether faults of single images and annotations are left to ``content``.

        Raises:
            UserError: If it cannot be read.
        """

    @abstractmethod
    def agree(self, root: Path, parts: Mapping[str, PartT], request: DataRequest, tolerant: bool) -> Names:
        """Return the classes that all splits share.

        Args:
            root: The folder of the data set.
            parts: What was read, by split; at least one.
            request: What the user gave.
            tolerant: As in ``read``.

        Raises:
            NeedsConfigError: If the folder does not tell the classes.
            UserError: If the splits disagree, or the classes are not those asked for.
        """

    @abstractmethod
    def check(self, root: Path, split: str, part: PartT, names: Names, tolerant: bool) -> CheckedT:
        """Return a split, checked against the classes.

        Raises:
            UserError: If something is missing or does not fit the classes.
        """

    def recognises(self, request: DataRequest) -> bool:
        """Tell whether a folder looks like one of this layout, be it whole or not."""
        try:
            if any(self.find(request, split) is not None for split in SPLITS):
                return True
            return request.split is not None and self.undivided(request) is not None
        except UserError:  # there is too much of it, or what was named is not there
            return True

    def place(self, request: DataRequest, split: str) -> PlaceT:
        """Return where a split lies.

        Raises:
            UserError: If it is not there.
        """
        place = self.find(request, split)
        if place is None:
            raise self.absent(request.root, split)
        return place

    def resolve(
        self,
        request: DataRequest,
        training: bool = True,
        tolerant: bool = False,
        validating: bool = True,
        derived: Path = Path(DERIVED),
    ) -> Found[CheckedT]:
        """Find and check the splits of a data set.

        Args:
            request: The folder, and what overrides the search.
            training: Whether train and val are needed (test is taken if there is one), or only test (val if there is
                none).
            tolerant: Whether faults of single images and annotations are left to ``content``.
            validating: Whether a training needs val.
            derived: Folder of what a run reads in place of the user's files; nothing is written here.

        Raises:
            UserError: If a split cannot be found, is faulty, or does not go with the others.
        """
        root = request.root
        told: tuple[str, ...] = ()
        if request.divides:
            parts, told = self.divided(request, training, tolerant, derived)
        else:
            splits = needed_splits(request, training, self.find, validating)
            parts = {split: self.read(self._place(request, split, training), tolerant) for split in splits}
        names = self.agree(root, parts, request, tolerant)
        checked = {split: self.check(root, split, part, names, tolerant) for split, part in parts.items()}
        return Found(root, names, checked, derived, told)

    def _place(self, request: DataRequest, split: str, training: bool) -> PlaceT:
        """Return where a split lies, or tell how a training goes without it."""
        place = self.find(request, split)
        if place is not None:
            return place
        ways = []
        if training and self.divisible:
            ways.append('cut it from the other images with --split 0.8/0.2 (train/val)')
        if training and split == 'val':
            ways.append('train without it by --no-val')
        error = self.absent(request.root, split)
        raise UserError('; or '.join([str(error), *ways])) if ways else error

    # --- a folder without splits
    divisible: ClassVar[bool] = False

    def undivided(self, request: DataRequest) -> PlaceT | None:
        """Return where a data set lies that has no splits; None if it is not there."""
        return None

    def items(self, part: PartT) -> list[Item]:
        """Return the images that were read, with their classes."""
        raise NotImplementedError

    def subset(self, part: PartT, kept: Sequence[int], target: Path) -> PartT:
        """Return what was read, with some of its ``items`` only.

        Args:
            part: What was read.
            kept: Indices of the items.
            target: Where its list will be, without its ending.
        """
        raise NotImplementedError

    def texts(self, found: Found[CheckedT]) -> dict[Path, str]:
        """Return the lists that must be written before a run reads the splits that were found."""
        return {}

    def divided(
        self, request: DataRequest, training: bool, tolerant: bool, derived: Path
    ) -> tuple[dict[str, PartT], tuple[str, ...]]:
        """Return the splits of a data set that has none, by ``--split``; and what to say about them.

        Args:
            request: The folder, and how to divide it.
            training: As in ``resolve``.
            tolerant: As in ``read``.
            derived: Folder for the lists of the splits; nothing is written here.

        Raises:
            UserError: If it cannot be divided so.
        """
        ratios = parse_ratios(request.split or '')
        if not self.divisible:
            raise UserError(f'--split: {self.name} are not divided here; make the splits, then leave --split out')
        for split in [split for split in ratios if split != 'train']:
            if self.find(request, split) is not None:
                raise UserError(f'--split: {request.root} has a {split} split already; leave --split out')
        place = self.find(request, 'train') or self.undivided(request)
        if place is None:
            raise self.absent(request.root, 'train')
        whole = self.read(place, tolerant)
        items = self.items(whole)
        seed = SEED if request.split_seed is None else request.split_seed
        divided = divide(items, ratios, seed, not request.no_groups)
        parts = {split: self.subset(whole, kept, derived / f'split_{split}') for split, kept in divided.kept.items()}
        numbers = ', '.join(f'{split} {len(kept)}' for split, kept in divided.kept.items())
        told = (
            f'--split {request.split}: {count(len(items), "image")} divided into {numbers} (seed {seed}); {divided.how}'
        )
        if 'test' not in parts and self.find(request, 'test') is not None:
            parts['test'] = self.read(self.place(request, 'test'), tolerant)
        if not training:
            tested = 'test' if 'test' in parts else 'val'
            parts = {tested: parts[tested]}
        return parts, (told,)

    # --- what is shown of a folder
    @abstractmethod
    def labelled(self, found: Found[CheckedT], split: CheckedT) -> Iterator[LabelledImage]:
        """Yield the images of a split with their labels, in the order in which ``content`` numbers them.

        Args:
            found: The data set.
            split: The split.
        """

    def title(self, root: Path, split: str, place: PlaceT) -> str:
        """Return the name under which the doctor shows a split."""
        return split

    def look(self, place: PlaceT) -> str:
        """Return a shell command that shows what is wrong at a place, where no command fixes it."""
        return f'ls -lR {shlex.quote(str(place))}'

    def others(self, request: DataRequest) -> list[tuple[str, PlaceT]]:
        """Return what looks like further splits, which no run finds by itself, each with the split it is most like."""
        return []

    # --- a folder in a config
    def kept(self, view: ConfigView, request: DataRequest) -> list[str] | None:
        """Return lines to print if a config reads this very folder, so that its root moves only; None if not."""
        return None

    def settle(self, found: Found[CheckedT], folder: Path) -> tuple[Found[CheckedT], tuple[NewFile, ...]]:
        """Return what was found as a config can read it, and the files that must be written for that.

        Args:
            found: What was found.
            folder: Where such files belong.
        """
        return found, ()

    @abstractmethod
    def point(self, reading: Reading, found: Found[CheckedT], split: CheckedT) -> tuple[Edit, ...]:
        """Return the edits that let a data set of a config read a split that was found."""

    def finish(self, view: ConfigView, found: Found[CheckedT]) -> Change:
        """Return what else of a config depends on the data."""
        return Change()

    def write(self, found: Found[CheckedT], tolerant: bool) -> None:
        """Write what the edits of ``point`` refer to, into ``found.derived``; nothing where the user's files do.

        Args:
            found: The data set.
            tolerant: Whether files that are at fault are left to ``content``.

        Raises:
            UserError: If it cannot be written, or a file is at fault.
        """
        for path, text in self.texts(found).items():
            write_text(path, text)

    # --- a config that names its data
    @abstractmethod
    def reads(self, reading: Reading) -> bool:
        """Tell whether a data set of a config is one of this layout."""

    def needs(self, reading: Reading) -> list[Path]:
        """Return the files and folders without which a data set is not there."""
        return [reading.path(folder) for folder in image_prefixes(reading.dataset)]

    def expected(self, dataset: dict[str, Any]) -> list[str]:
        """Return the paths below its root that a data set reads, for a picture of the tree; folders end in a slash."""
        folders = [f'{folder.rstrip("/")}/' for folder in image_prefixes(dataset) if folder]
        return [dataset['ann_file'], *folders] if dataset.get('ann_file') else folders

    @abstractmethod
    def fits(self, view: ConfigView, reading: Reading, tolerant: bool) -> list[str]:
        """Check that a data set, which is there, fits its config, and return lines to print.

        Raises:
            UserError: If it does not.
        """

    @abstractmethod
    def content(self, reading: Reading, check: str, cache: CheckCache | None) -> Content:
        """Check each image and annotation of a data set.

        Args:
            reading: The data set.
            check: ``quick`` or ``full``; see ``emo_mm.data.files.check``.
            cache: Answers of earlier runs.

        Raises:
            UserError: If it cannot be read, or nothing can be learned from it.
        """

    def repaired(self, view: ConfigView, reading: Reading, target: Path) -> Change:
        """Write a repaired copy of the list of a data set that the toolbox cannot read as it is, and read that instead.

        Args:
            view: The config.
            reading: The data set.
            target: A folder for the copy, made if absent; the data themselves stay as they are.
        """
        return Change()

    def boxes(self, reading: Reading) -> Boxes | None:
        """Return the boxes that a data set trains on; None where the layout has none.

        Raises:
            UserError: If its file cannot be read.
        """
        return None

    def content_of(self, reading: Reading, checked: CheckedT, check: str, cache: CheckCache | None) -> Content:
        """Check the content of a split that was found, as ``content`` does once a config reads it."""
        return self.content(reading, check, cache)

    def without(
        self, view: ConfigView, reading: Reading, content: Content, drops: Mapping[str, set[int]], target: Path
    ) -> Left:
        """Write a list of a data set without some entries; the data themselves stay as they are.

        Args:
            view: The config.
            reading: The data set.
            content: What the check of the content found.
            drops: The entries to leave out, by the lists that they are in.
            target: The list of what is left, without its ending.
        """
        path = target.with_name(f'{target.name}.txt')
        kept = [name for index, name in enumerate(content.names) if index not in drops['images']]
        write_text(path, '\n'.join([*kept, '']))
        return Left(path, count(len(drops['images']), 'image'), reading.part.edit(ann_file=path.absolute().as_posix()))


# --- what several layouts do
def same_folders(view: ConfigView, request: DataRequest) -> bool:
    """Tell whether the folders that a config reads are under the new root, and nothing but the root was given."""
    if not request.only_root:
        return False
    for split in view.read_splits:
        dataset = view.only_dataset(split.name).node
        if not split.datasets:  # a training without val
            continue
        if dataset_classes(dataset, view.task.scope) is None:
            return False
        if not all(folder and (request.root / folder).is_dir() for folder in image_prefixes(dataset)):
            return False
    return True


def listed_lines(path: Path) -> list[str]:
    """Return the lines of a list of images that are not empty.

    Raises:
        UserError: If it cannot be read.
    """
    try:
        return [line.strip() for line in path.read_text(encoding='utf-8').splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'{path}: cannot be read as a list of images ({error})') from error


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all: the processes of a distributed run write the same one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, durable=False) as file:
        file.write(text.encode(errors='surrogateescape'))  # names of files need not be texts
