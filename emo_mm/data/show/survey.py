"""Everything that is known of a data set once each of its files was read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emo_mm.data.faults import Content
from emo_mm.data.files.cache import CheckCache, known_answers
from emo_mm.data.folder import Opened, content_of, open_folder
from emo_mm.data.labelled import LabelledImage
from emo_mm.data.layouts.base import DERIVED
from emo_mm.data.show.files import FileFacts, facts_of, in_threads
from emo_mm.data.show.kinds import KINDS, Counts, Kind
from emo_mm.data.show.twins import Twins, find_twins
from emo_mm.data.splits import DataRequest, inside
from emo_mm.errors import UserError
from emo_mm.runtime.colours import Colour
from emo_mm.tasks import Task


@dataclass(frozen=True)
class Part:
    """A split of a data set, or all of one that has none.

    Attributes:
        name: Its name.
        images: Its images.
        facts: What is known of the file of each.
        counts: What each has of each class; nothing where its labels cannot be read.
        sound: Whether each can be trained on as it is, shape (images,).
        content: What the check of the content found, its files as they are shown.
        refusal: Why nothing can be learned from it; '' if something can.
    """

    name: str
    images: tuple[LabelledImage, ...]
    facts: tuple[FileFacts, ...]
    counts: tuple[Counts, ...]
    sound: NDArray[np.bool_]
    content: Content
    refusal: str = ''

    def of_sound(self, values: Sequence[Any]) -> Iterator[Any]:
        """Yield what belongs to the images that can be trained on, of a value for each image."""
        return (value for value, sound in zip(values, self.sound, strict=True) if sound)


@dataclass(frozen=True)
class Survey:
    """A data set, looked through.

    Attributes:
        root: Its folder.
        layout: What its layout is called.
        kind: The kind of its labels.
        classes: Its class names in label order.
        palette: A colour per class, where colours matter.
        lines: What a training would print of what it found.
        doubt: What only a config can tell of its classes; '' if nothing.
        others: Files that look like further splits, which no run finds by itself.
        parts: Its parts.
        twins: Which images are there twice; all images of all parts, one part after the other.
    """

    root: Path
    layout: str
    kind: Kind
    classes: tuple[str, ...]
    palette: Sequence[Colour]
    lines: tuple[str, ...]
    doubt: str
    others: tuple[str, ...]
    parts: tuple[Part, ...]
    twins: Twins

    @cached_property
    def images(self) -> list[LabelledImage]:
        """The images of all parts, one after the other."""
        return [image for part in self.parts for image in part.images]

    @property
    def part_of(self) -> NDArray[np.int64]:
        """The number of the part of each of these images."""
        return _numbers([len(part.images) for part in self.parts])

    def shown(self, path: Path) -> str:
        """Return the path of a file as it is shown: relative to the root where it lies under it."""
        return inside(self.root, path)


def survey(request: DataRequest, task: Task | None, derived: Path) -> Survey:
    """Look through a data set.

    Args:
        request: The folder, and what overrides the search.
        task: What the data are for; None if the folder tells.
        derived: An empty folder for what a run reads in place of the user's files.

    Raises:
        UserError: If a training could not read it.
    """
    opened = open_folder(request, task, derived)
    layout, found = opened.layout, opened.found
    layout.write(found, tolerant=True)

    def told(text: str) -> str:
        return text.replace(derived.as_posix(), DERIVED)  # as it is in the work directory of a training

    images = {name: tuple(layout.labelled(found, split)) for name, split in found.splits.items()}
    kind = next(KINDS[type(image.labels)] for some in images.values() for image in some)
    with known_answers() as cache:
        parts = tuple(_part(opened, name, some, kind, cache, told) for name, some in images.items())
    part_of = _numbers([len(part.images) for part in parts])
    return Survey(
        root=found.root,
        layout=layout.name,
        kind=kind,
        classes=found.classes,
        palette=found.names.palette,
        lines=tuple(told(line) for line in found.lines()),
        doubt=opened.doubt,
        others=opened.others,
        parts=parts,
        twins=find_twins([one for part in parts for one in part.facts], part_of, len(parts)),
    )


def _part(
    opened: Opened,
    name: str,
    images: tuple[LabelledImage, ...],
    kind: Kind,
    cache: CheckCache,
    told: Callable[[str], str],
) -> Part:
    try:
        content, refusal = content_of(opened.layout, opened.found, name, cache), ''
    except UserError as error:
        content, refusal = Content([], {}), told(str(error))
    root = opened.found.root
    shown = [replace(fault, file=told(inside(root, Path(fault.file)))) for fault in content.faults]
    content = replace(content, faults=shown)
    faulty = content.drops().get('images', set())
    counts = tuple(in_threads(lambda image: _counts(kind, image), images, f'{name}: reading labels'))
    facts = tuple(in_threads(facts_of, [image.path for image in images], f'{name}: comparing images'))
    sound = np.array([index not in faulty and found is not None for index, found in enumerate(counts)], bool)
    return Part(name, images, facts, tuple(found or {} for found in counts), sound, content, refusal)


def _counts(kind: Kind, image: LabelledImage) -> Counts | None:
    """Return what an image has of each class; None where its labels cannot be read."""
    try:
        return kind.count(image.labels)
    except (UserError, OSError):
        return None


def _numbers(sizes: Sequence[int]) -> NDArray[np.int64]:
    return np.repeat(np.arange(len(sizes)), sizes)
