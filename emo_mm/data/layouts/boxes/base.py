"""What all formats of boxes share: they are read to a ``BoxSet``, and trained on as a COCO file.

The COCO file is written into the work directory of a run; a dry run and the doctor look at the same content in memory.
A format says where its files lie (``files_of``), which files are its own (``takes``), and what is in them
(``read_boxes``). All checks are those of the COCO layout.
"""

from __future__ import annotations

import json
import math
import os
import xml.etree.ElementTree as ElementTree
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar

from emo_mm.config.edits import Change, Edit, NewFile
from emo_mm.config.view import ConfigView
from emo_mm.data.boxes import Box, BoxImage, BoxSet, LabelFault, measured, to_coco
from emo_mm.data.faults import Content
from emo_mm.data.files.cache import CheckCache, known_answers
from emo_mm.data.files.check import check_files
from emo_mm.data.labelled import LabelledImage
from emo_mm.data.layouts.base import Found, Layout, Names, NeedsConfigError, Reading
from emo_mm.data.layouts.coco import COCO, CocoLayout, CocoPart, CocoSplit
from emo_mm.data.layouts.coco.file import file_of, require_sound
from emo_mm.data.layouts.coco.outlined import with_outlines
from emo_mm.data.layouts.coco.repair import Repaired
from emo_mm.data.splits import (
    IMAGE_SUFFIXES,
    SPLIT_NAMES,
    SPLITS,
    DataRequest,
    chosen_classes,
    count,
    files_under,
    inside,
    locate,
    read_classes,
    shortlist,
)
from emo_mm.data.splitting import Item
from emo_mm.errors import UserError
from emo_mm.runtime.colours import class_colours

CLASS_FILES = ('classes.txt', 'labels.txt')  # a name per line, in the order of the labels
NO_CLASSES = ('_background_',)  # a line of LabelMe's list that names no class of boxes
IMAGES = (*IMAGE_SUFFIXES, '.tiff', '.webp')


@dataclass(frozen=True)
class BoxPlace:
    """Where a split lies.

    Attributes:
        root: The folder of the data set.
        split: The split.
        sources: Its label files, lists or folders, as the format has them; at least one.
        images: Folder of its images, where the user named one.
    """

    root: Path
    split: str
    sources: tuple[Path, ...]
    images: Path | None = None


@dataclass(frozen=True)
class BoxPart:
    """What was read at a place."""

    place: BoxPlace
    boxes: BoxSet

    @property
    def source(self) -> Path:
        """What it was read from, for messages."""
        return self.place.sources[0]

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that were found, in label order."""
        return self.boxes.classes

    @property
    def image_dir(self) -> Path:
        """The folder that the names of the images start from."""
        return self.place.root

    def annotated(self, classes: Sequence[str]) -> Repaired:
        """Return the content of a COCO file of it, with these classes first."""
        return Repaired(to_coco(self.boxes.with_classes(classes)), self.boxes.notes)

    def only_crowds(self) -> bool:
        """Tell whether it has labels, and all of them are crowds."""
        crowds = [box.crowd for image in self.boxes.images for box in image.boxes]
        return bool(crowds) and all(crowds)


@dataclass(frozen=True)
class BoxSplit(CocoSplit):
    """A split, checked as a COCO file.

    Attributes:
        content: The content of that file.
    """

    content: Mapping[str, Any] = field(default_factory=dict)

    def whole(self) -> Mapping[str, Any]:
        """Return the content."""
        return self.content


class BoxLayout(Layout[BoxPlace, BoxPart, BoxSplit]):
    """A format of boxes.

    Attributes:
        usual: A split's usual places, with ``{split}`` for its name, for the message where there is none.
        names_in_labels: Whether labels are names. Then the classes of a data set are those of all its splits.
        coco: The layout by which what was read is checked and trained on.
    """

    usual: ClassVar[str]
    names_in_labels: ClassVar[bool] = True
    coco: ClassVar[CocoLayout] = COCO
    of_configs: ClassVar[bool] = False

    # --- what a format tells
    @abstractmethod
    def files_of(self, root: Path, split: str) -> tuple[Path, ...]:
        """Return the files or folders of a split by their usual names; none if it is not there."""

    @abstractmethod
    def takes(self, path: Path) -> bool:
        """Tell whether what the user named as the labels of a split is of this format."""

    @abstractmethod
    def read_boxes(self, place: BoxPlace) -> BoxSet:
        """Return what lies at a place.

        Raises:
            UserError: If it cannot be read; faults of single labels are ``BoxImage.faults``.
        """

    # --- the steps of a layout
    def find(self, request: DataRequest, split: str) -> BoxPlace | None:
        """Return the files of a split, and the folder of its images if one was named."""
        root, ann, images = request.root, request.ann(split), request.images(split)
        sources = (locate(root, ann, f'--{split}-ann'),) if ann else self.files_of(root, split)
        folder = locate(root, images, f'--{split}-images') if images else None
        return BoxPlace(root, split, sources, folder) if sources else None

    def recognises(self, request: DataRequest) -> bool:
        """Tell whether there is a split, and what the user named is of this format."""
        named = [ann for split in SPLITS if (ann := request.ann(split))]
        if not all(any(self.takes(path) for path in (request.root / ann, Path(ann))) for ann in named):
            return False
        return super().recognises(request)

    def absent(self, root: Path, split: str) -> UserError:
        """Return the error for a split that is not there."""
        return UserError(
            f'{root}: no {self.name} of the {split} split found; usual is {self.usual.format(split=split)}. '
            f'Give them with --{split}-ann PATH'
        )

    def read(self, place: BoxPlace, tolerant: bool) -> BoxPart:
        """Return the boxes."""
        return BoxPart(place, self.read_boxes(place))

    def agree(self, root: Path, parts: Mapping[str, BoxPart], request: DataRequest, tolerant: bool) -> Names:
        """Return the classes of all splits: as a file lists them, or by the alphabet; or those that the user chose."""
        return self.named(root, parts, request, chosen_classes(request))

    def named(
        self, root: Path, parts: Mapping[str, BoxPart], request: DataRequest, chosen: Sequence[str] | None
    ) -> Names:
        """Return the classes as ``agree`` does, with those that the user chose, if any."""
        sets = [part.boxes for part in parts.values()]
        if self.names_in_labels:  # a test alone must number them as the training did
            rest = [self.find(request, split) for split in SPLITS if split not in parts]
            sets += [self.read_boxes(place) for place in rest if place is not None]
        listed = {one.classes for one in sets}
        known = sets[0].classes if len(listed) == 1 else tuple(sorted({name for names in listed for name in names}))
        classes, source = _in_listed_order(root, known) if self.names_in_labels else (known, '')
        if chosen is not None:
            source = ''
            if known and (unknown := [name for name in chosen if name not in known]):
                raise UserError(
                    f'{root}: has no class {shortlist(unknown)} as asked for by --classes; it has {shortlist(known)}'
                )
            by_name = self.names_in_labels or not known
            classes = tuple(chosen) if by_name else tuple(name for name in known if name in chosen)
        if not classes:
            most = max((box.label for one in sets for image in one.images for box in image.boxes), default=0)
            raise NeedsConfigError(
                f'{root}: the class names are not known',
                'give a text file with --classes FILE, one name per line in the order of the labels',
                Names(tuple(f'class {label}' for label in range(most + 1))),
            )
        return Names(classes, class_colours(len(classes)), source)

    def check(self, root: Path, split: str, part: BoxPart, names: Names, tolerant: bool) -> BoxSplit:
        """Check the split as a COCO file of the same content is checked."""
        content = part.annotated(names.classes).content
        file = file_of(part.source, content, masks=self.coco.masks)
        if not tolerant:
            require_sound(file)
        if self.coco.masks:
            content = measured(with_outlines(content))
        checked = self.coco.check(root, split, CocoPart(file, root), names, tolerant)
        values = {each.name: getattr(checked, each.name) for each in fields(checked)}
        return BoxSplit(**{**values, 'notes': (*part.boxes.notes, *checked.notes)}, content=content)

    # --- a folder without splits
    divisible = True

    def undivided(self, request: DataRequest) -> BoxPlace | None:
        """Return the label file of the whole data set, by its usual name."""
        source, images = self.whole_file(request.root), request.images('train')
        if source is None:
            return None
        folder = locate(request.root, images, '--train-images') if images else None
        return BoxPlace(request.root, 'train', (source,), folder)

    def whole_file(self, root: Path) -> Path | None:
        """Return the label file of a data set without splits, for a format whose ``files_of`` train is another."""
        return None

    def items(self, part: BoxPart) -> list[Item]:
        """Return the images with the classes of their boxes."""
        name_of = dict(enumerate(part.boxes.classes))
        return [
            Item(image.file, frozenset(name_of.get(box.label, str(box.label)) for box in image.boxes))
            for image in part.boxes.images
        ]

    def subset(self, part: BoxPart, kept: Sequence[int], target: Path) -> BoxPart:
        """Return some of the images; their list is the COCO file that every split gets."""
        images = tuple(part.boxes.images[index] for index in kept)
        notes = tuple(f'before --split: {note}' for note in part.boxes.notes)
        return replace(part, boxes=replace(part.boxes, images=images, notes=notes))

    def labelled(self, found: Found[BoxSplit], split: BoxSplit) -> Iterator[LabelledImage]:
        """Yield the images with their boxes."""
        return self.coco.labelled(_as_coco(found), split)

    def settle(self, found: Found[BoxSplit], folder: Path) -> tuple[Found[BoxSplit], tuple[NewFile, ...]]:
        """Return the splits as COCO files in the folder, and these files."""
        paths = {name: (folder / f'{name}.json').absolute() for name in found.splits}
        splits = {name: replace(split, ann_file=paths[name].as_posix()) for name, split in found.splits.items()}
        files = tuple(NewFile(paths[name], json.dumps(split.content)) for name, split in found.splits.items())
        return replace(found, splits=splits), files

    def point(self, reading: Reading, found: Found[BoxSplit], split: BoxSplit) -> tuple[Edit, ...]:
        """Give a data set the COCO file."""
        return self.coco.point(reading, _as_coco(found), split)

    def finish(self, view: ConfigView, found: Found[BoxSplit]) -> Change:
        """Give the evaluators their COCO files; tell which images are not trained on."""
        return self.coco.finish(view, _as_coco(found))

    def reads(self, reading: Reading) -> bool:
        """Tell that no data set of a config is of this format: it reads the COCO file."""
        return False

    def fits(self, view: ConfigView, reading: Reading, tolerant: bool) -> list[str]:
        """Check the COCO file."""
        return self.coco.fits(view, reading, tolerant)

    def content(self, reading: Reading, check: str, cache: CheckCache | None) -> Content:
        """Check the COCO file and its images."""
        return self.coco.content(reading, check, cache)

    def content_of(self, reading: Reading, checked: BoxSplit, check: str, cache: CheckCache | None) -> Content:
        """Check the content in memory, as that of the COCO file is checked."""
        return self.coco.content_of(reading, checked, check, cache)


def _in_listed_order(root: Path, known: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    """Return class names in the order of a file that lists them, if there is one, and what is to be said of it.

    Args:
        root: The folder of the data set.
        known: The names that the labels have.
    """
    path = next((root / name for name in CLASS_FILES if (root / name).is_file()), None)
    if path is None:
        return known, ''
    listed = tuple(name for name in read_classes(path) if name not in NO_CLASSES)
    missing = [name for name in known if name not in listed]
    if missing:
        return known, f'the labels ({path.name} is not used: it lacks {shortlist(missing)})'
    return listed, path.name


def _as_coco(found: Found[BoxSplit]) -> Found[CocoSplit]:
    return Found(found.root, found.names, dict(found.splits))


# --- what several formats do
def sized(place: BoxPlace, images: Iterable[tuple[Path, BoxImage]]) -> tuple[BoxImage, ...]:
    """Return images with their paths in the data set, and with sizes: those they have, else those in their headers.

    An image that cannot be read gets a size of one pixel and loses its boxes: the check of the files names it.
    """
    listed = list(images)
    asked = [path for path, image in listed if not (image.width > 0 and image.height > 0)]
    size_of = dict(zip(asked, sizes_of(asked), strict=True))
    done = []
    for path, image in listed:
        width, height = size_of.get(path, (image.width, image.height))
        known = replace(image, file=inside(place.root, path), width=width or 1, height=height or 1)
        done.append(known if width and height else replace(known, boxes=(), faults=()))
    return tuple(done)


Label = tuple[str, Box | LabelFault]  # a class name, and the box whose label it is


@dataclass(frozen=True)
class NamedImage:
    """An image whose boxes have names.

    Attributes:
        path: The image.
        labels: Its boxes with the names of their classes.
        width: Width as the label file tells it; 0 if it does not.
        height: Height likewise.
    """

    path: Path
    labels: Sequence[Label]
    width: int = 0
    height: int = 0


def named_boxes(
    place: BoxPlace, images: Iterable[NamedImage], classes: Sequence[str] = (), notes: tuple[str, ...] = ()
) -> BoxSet:
    """Return the boxes of images whose labels are names.

    Args:
        place: Where the split lies.
        images: The images.
        classes: Class names that the files list, in their order; others follow by the alphabet.
        notes: What a user should know of the split.
    """
    listed = list(images)
    found = {name for image in listed for name, label in image.labels if isinstance(label, Box)}
    every = (*classes, *sorted(found - set(classes)))
    label_of = {name: label for label, name in enumerate(every)}
    pairs = []
    for image in listed:
        boxes = [replace(box, label=label_of[name]) for name, box in image.labels if isinstance(box, Box)]
        faults = [fault for _, fault in image.labels if isinstance(fault, LabelFault)]
        pairs.append((image.path, BoxImage('', image.width, image.height, tuple(boxes), tuple(faults))))
    return BoxSet(every, sized(place, pairs), notes)


def sizes_of(paths: Sequence[Path]) -> list[tuple[int, int]]:
    """Return width and height of each image as it stands upright; (0, 0) if it cannot be read."""
    with known_answers() as cache:
        answers = check_files([path.as_posix() for path in paths], 'quick', cache)
    return [(answer.width, answer.height) for answer in answers]


def split_names(split: str) -> tuple[str, ...]:
    """Return the names that stand for a split, as they are usually written."""
    return tuple(dict.fromkeys((split, *SPLIT_NAMES[split])))


class ImageFinder:
    """Finds images by the names that label files call them.

    Args:
        folders: Where they may lie, most usual first; those that are not there do not matter.
    """

    def __init__(self, folders: Iterable[Path]) -> None:
        self.folders = [folder for folder in dict.fromkeys(folders) if folder.is_dir()]
        self._by_stem: dict[str, Path] | None = None

    def find(self, name: str, stem: str = '') -> Path | None:
        """Return the image of a name, or else the one that is called as the label file; None if there is none.

        Args:
            name: What the label file calls its image; may be a path of another machine. Empty if it says nothing.
            stem: The name of the label file without its ending.
        """
        name = name.replace('\\', '/') if is_path(name) else ''
        for shorter in dict.fromkeys((name, name.rpartition('/')[2])) if name else ():
            for folder in self.folders:
                if is_file(folder / shorter):
                    return folder / shorter
        return self.stems.get(stem)

    @property
    def stems(self) -> dict[str, Path]:
        """The images directly in the folders, by their names without the ending."""
        if self._by_stem is None:
            found = [
                folder / name for folder in self.folders for name in files_under(folder, IMAGES) if '/' not in name
            ]
            self._by_stem = {path.stem: path for path in reversed(found)}
        return self._by_stem


def unlabelled(folder: Path, listed: Iterable[Path]) -> tuple[str, ...]:
    """Return a note on the images of a folder that no label file names."""
    left = {folder / name for name in files_under(folder, IMAGES)} - set(listed)
    names = shortlist(sorted(path.name for path in left), 3)
    return (f'{count(len(left), "image")} left out, as no label file names {names}',) if left else ()


def left_out(shapes: Mapping[str, int]) -> tuple[str, ...]:
    """Return notes on the kinds of shapes, with how many there are of each, that are not read."""
    return tuple(
        f'{count(number, "shape")} left out: {kind} is neither a box nor an area'
        for kind, number in sorted(shapes.items())
    )


def is_path(text: str) -> bool:
    """Tell whether a text can be the path of a file: without NUL and halves of characters, not too long."""
    try:
        return '\0' not in text and max(map(len, os.fsencode(text).split(b'/'))) < 256
    except UnicodeEncodeError:
        return False


def is_file(path: Path) -> bool:
    """Tell whether a path, which a file of the user names, leads to a file; one that can be no path does not."""
    return is_path(str(path)) and path.is_file()


def read_text(path: Path) -> str:
    """Return the content of a text file.

    Raises:
        UserError: If it cannot be read.
    """
    try:
        text = path.read_text(encoding='utf-8-sig')
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'{path}: cannot be read ({error})') from error
    if '\0' in text:
        raise UserError(f'{path}: holds NUL, so it is no text file')
    return text


def number(text: str | None) -> float | None:
    """Return the finite number that a text stands for; None if it is none."""
    try:
        value = float(text or '')
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def read_xml(path: Path) -> ElementTree.Element:
    """Return the root of an XML file.

    Raises:
        UserError: If it cannot be read; the message names the line. Files that declare entities are refused.
    """
    try:
        data = path.read_bytes()
        if any('<!ENTITY'.encode(encoding) in data for encoding in ('utf-8', 'utf-16-le', 'utf-16-be')):
            raise UserError(f'{path}: declares XML entities, which no label file needs; remove them')
        # without entities nothing can be expanded or fetched
        return ElementTree.fromstring(data)  # nosec B314
    except (OSError, ElementTree.ParseError) as error:
        raise UserError(f'{path}: cannot be read as XML ({error})') from error
