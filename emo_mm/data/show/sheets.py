"""Sheets of the truth: which images they show, and how labels of each kind are drawn."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from emo_mm.data.labelled import BoxLabels, ClassLabel, MaskLabels, ObjectLabels
from emo_mm.data.layouts.masks.pixels import IGNORED
from emo_mm.data.outlines import rectangles_of
from emo_mm.data.show.findings import Pairs
from emo_mm.data.show.survey import Part, Survey
from emo_mm.data.splits import count, shortlist
from emo_mm.data.training_boxes import even_choice
from emo_mm.errors import UserError
from emo_mm.report.sheets import Boxes, Cell, boxes_picture, mask_pictures, square_picture, truth_sheet
from emo_mm.runtime.colours import Colour, class_colours
from emo_mm.runtime.images import read_image

_FAULTY = 0.25  # of a sheet, at most, where there are enough sound images
_MASK_TILE = 220  # pixels: width of a picture beside its mask
_MOST_PAIRS = 8  # of twins that are shown
_CROWD: Colour = (130, 130, 130)
_DARK: Colour = (60, 60, 60)  # of ignored pixels in a legend


@dataclass(frozen=True)
class Sheet:
    """A sheet of the truth.

    Attributes:
        image: The sheet.
        shown: Number of images on it.
        words: What is on it, and what is not.
    """

    image: Image.Image
    shown: int
    words: str


@dataclass(frozen=True)
class _Style:
    """How labels of a kind are drawn.

    Attributes:
        columns: Cells side by side.
        headings: Line above each picture of a cell.
        cell: Draws an image, given what else is to be said of it.
        legend: Whether the colours are named below the sheet.
    """

    columns: int
    headings: tuple[str, ...]
    cell: Callable[[Survey, np.ndarray, Any, str], tuple[tuple[Image.Image, ...], tuple[str, ...]]]
    legend: bool


def truth_of(survey: Survey, part: Part, most: int) -> Sheet | None:
    """Return the sheet of a part; None where no image can be read.

    Args:
        survey: The data set.
        part: The part.
        most: Number of images on it.
    """
    style = _STYLES[type(part.images[0].labels)]
    faults = _faults(part)
    cells, seen = [], set[int]()
    for index in _readable(part, most):
        cell = _cell(survey, part, style, index, faults.get(index, ''))
        if cell is not None:
            cells.append(cell)
            seen |= set(part.counts[index])
    if not cells:
        return None
    cells.sort(key=lambda cell: cell.pictures[0].height / cell.pictures[0].width)  # rows of like heights
    legend = _legend(survey, sorted(seen)) if style.legend else ()
    title = f'{part.name}: {len(cells)} of {count(len(part.images), "image")}'
    image = truth_sheet(cells, columns=style.columns, headings=style.headings, title=title, legend=legend)
    return Sheet(image, len(cells), _words(survey, part, seen))


def twins_sheet(survey: Survey, every: Sequence[Pairs]) -> Image.Image | None:
    """Return a sheet of images beside their twins, those of two parts first; None where there are none."""
    images = survey.images
    cells: list[Cell] = []
    known: set[frozenset[int]] = set()
    for pairs in every:
        for pair in pairs.pairs:
            if frozenset(pair) in known or len(cells) == _MOST_PAIRS:
                continue
            known.add(frozenset(pair))
            try:
                pictures = tuple(square_picture(read_image(images[index].path), tile=240) for index in pair)
            except UserError:
                continue
            cells.append(Cell(pictures, tuple(survey.shown(images[index].path) for index in pair), pairs.leak))
    return truth_sheet(cells, columns=2) if cells else None


# --- which images
def choose(labels: Sequence[Collection[int]], most: int) -> list[int]:
    """Return images that show every class, as far as they can, and are spread evenly.

    Args:
        labels: Labels of each image.
        most: Number of images.

    Returns:
        Indices, ascending.
    """
    holders: dict[int, list[int]] = {}
    for index, own in enumerate(labels):
        for label in own:
            holders.setdefault(label, []).append(index)
    missing, taken = set(holders), list[int]()
    for label in sorted(holders, key=lambda label: (len(holders[label]), label)):
        if label in missing and len(taken) < most:
            best = max(holders[label], key=lambda index: len(missing.intersection(labels[index])))
            taken.append(best)
            missing.difference_update(labels[best])
    rest = [index for index in range(len(labels)) if index not in set(taken)]
    return sorted([*taken, *(rest[index] for index in even_choice(len(rest), most - len(taken)))])


def _readable(part: Part, most: int) -> list[int]:
    """Return the images of a sheet: sound ones, and some of those that can be drawn although they are at fault."""
    drawable = np.array([one.look is not None for one in part.facts], bool)
    sound = np.flatnonzero(part.sound & drawable)
    faulty = np.flatnonzero(~part.sound & drawable)
    of_faulty = min(len(faulty), max(int(most * _FAULTY), most - len(sound)))
    some = [int(faulty[index]) for index in even_choice(len(faulty), of_faulty)]
    chosen = choose([part.counts[index].keys() - {IGNORED} for index in sound], most - len(some))
    return sorted([*(int(sound[index]) for index in chosen), *some])


def _faults(part: Part) -> dict[int, str]:
    """Return the kind of the first fault of each image that has one."""
    faults: dict[int, str] = {}
    for fault in part.content.serious:
        if fault.drop is not None and fault.drop[0] == 'images':
            faults.setdefault(fault.drop[1], fault.kind)
    return faults


def _words(survey: Survey, part: Part, seen: Collection[int]) -> str:
    there = {label for counts in part.of_sound(part.counts) for label in counts}
    absent = [name for label, name in enumerate(survey.classes) if label in there and label not in seen]
    return f'Not shown: {shortlist(absent)}; a larger --images shows more.' if absent else ''


# --- how they are drawn
def _cell(survey: Survey, part: Part, style: _Style, index: int, fault: str) -> Cell | None:
    image = part.images[index]
    try:
        pictures, captions = style.cell(survey, read_image(image.path), image.labels, image.path.name)
    except (UserError, OSError):
        return None
    return Cell(pictures, (fault, *captions[1:]) if fault else captions, bool(fault))


def _draw_boxes(
    survey: Survey, pixels: np.ndarray, labels: BoxLabels, name: str
) -> tuple[tuple[Image.Image, ...], tuple[str, ...]]:
    crowd = len(survey.classes)  # a label of its own
    boxes = labels.boxes
    corners = [(box.left, box.top, box.left + box.width, box.top + box.height) for box in boxes]
    drawn = Boxes(
        np.array(corners, float).reshape(-1, 4), np.array([crowd if box.crowd else box.label for box in boxes], int)
    )
    colours = [*class_colours(crowd), _CROWD]
    outlines = [box.outlines if box.runs is None else rectangles_of(box.runs) for box in boxes]
    picture = boxes_picture(pixels, drawn, outlines, [*survey.classes, 'crowd'], colours)
    kind = survey.kind
    return (picture,), (f'{name}: {count(len(boxes), kind.one, kind.many) if boxes else f"no {kind.one}"}',)


def _draw_mask(
    survey: Survey, pixels: np.ndarray, labels: MaskLabels, name: str
) -> tuple[tuple[Image.Image, ...], tuple[str, ...]]:
    mask = labels.read()
    present = sorted(set(np.unique(mask).tolist()) - {IGNORED})
    pictures = mask_pictures(pixels, mask, _palette(survey), tile=_MASK_TILE)
    return pictures, (name, shortlist((_name(survey, one) for one in present), 3))


def _draw_class(
    survey: Survey, pixels: np.ndarray, labels: ClassLabel, name: str
) -> tuple[tuple[Image.Image, ...], tuple[str, ...]]:
    return (square_picture(pixels),), (f'{survey.classes[labels.label]}: {name}',)


_STYLES: Mapping[type, _Style] = {
    BoxLabels: _Style(4, (), _draw_boxes, legend=True),
    ObjectLabels: _Style(4, (), _draw_boxes, legend=True),
    MaskLabels: _Style(3, ('image', 'truth'), _draw_mask, legend=True),
    ClassLabel: _Style(6, (), _draw_class, legend=False),
}


def _palette(survey: Survey) -> list[Colour]:
    return [*survey.palette, *class_colours(IGNORED)[len(survey.palette) :]]


def _name(survey: Survey, label: int) -> str:
    return survey.classes[label] if label < len(survey.classes) else f'label {label}, of no class'


def _legend(survey: Survey, labels: Sequence[int]) -> list[tuple[str, Colour]]:
    colours = _palette(survey)
    named = [(_name(survey, label), colours[label]) for label in labels if label != IGNORED]
    return [*named, ('ignored', _DARK)] if IGNORED in labels else named
