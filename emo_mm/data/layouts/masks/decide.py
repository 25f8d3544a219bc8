"""What kind of masks a data set has, told from some of each split: class numbers, black and white, or colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emo_mm.data.layouts.base import Colour
from emo_mm.data.layouts.masks.convert import HALF, INDEX_MASKS, Conversion
from emo_mm.data.layouts.masks.labels import disagreement, spread
from emo_mm.data.layouts.masks.pairs import MaskPairs
from emo_mm.data.layouts.masks.pixels import IGNORED, read_pixels
from emo_mm.data.layouts.masks.table import HOW_TO_WRITE, ClassTable
from emo_mm.data.splits import shortlist
from emo_mm.errors import UserError

BACKGROUND = 'background'
TWO_CLASSES = (BACKGROUND, 'foreground')

_SIDE = 512  # pixels to a side that are enough to tell colours by
_EDGE = 32  # how far from black or white JPEG blurs a pixel that is neither on an edge
_FEW_BETWEEN = 0.02  # share of pixels between black and white up to which masks are meant to be black and white


@dataclass(frozen=True)
class Look:
    """What a mask holds, in short.

    Attributes:
        path: The file.
        channels: Whether it has several channels.
        coloured: Whether these differ.
        lossy: Whether the file is of a kind that blurs pixels.
        palette: The colours of its numbers, unless they are plain greys.
        counts: How many pixels have each number.
        colours: The colours of several channels, or most of them.
    """

    path: Path
    channels: bool
    coloured: bool
    lossy: bool
    palette: Mapping[int, Colour]
    counts: Mapping[int, int]
    colours: frozenset[Colour]


@dataclass(frozen=True)
class Sample:
    """What some masks of a data set hold.

    Attributes:
        masks: These masks.
    """

    masks: tuple[Look, ...]

    @property
    def channels(self) -> bool:
        """Whether there are masks, and all have several channels."""
        return bool(self.masks) and all(mask.channels for mask in self.masks)

    @property
    def coloured(self) -> list[Look]:
        """The masks with several channels that differ."""
        return [mask for mask in self.masks if mask.coloured]

    @property
    def lossy(self) -> Path | None:
        """A mask of a kind that blurs pixels; None if there is none."""
        return next((mask.path for mask in self.masks if mask.lossy), None)

    @property
    def palettes(self) -> set[tuple[int, Colour]]:
        """The numbers with their colours, of masks with palettes that are no plain greys."""
        return {pair for mask in self.masks for pair in mask.palette.items()}

    def counts(self) -> dict[int, int]:
        """Return how many pixels have each number."""
        found: dict[int, int] = {}
        for mask in self.masks:
            for value, number in mask.counts.items():
                found[value] = found.get(value, 0) + number
        return found

    def colours(self) -> list[Colour]:
        """Return the colours of masks with several channels."""
        return sorted({colour for mask in self.masks for colour in mask.colours})


def look_at(path: Path) -> Look:
    """Return what a mask holds.

    Raises:
        UserError: If it cannot be read.
    """
    pixels = read_pixels(path)
    values, numbers = np.unique(pixels.numbers, return_counts=True)
    colours: set[Colour] = set()
    if pixels.values.ndim == 3:
        step = 1 + max(pixels.values.shape[:2]) // _SIDE
        some = pixels.values[::step, ::step].astype(np.int32)
        codes = np.unique(some[..., 0] << 16 | some[..., 1] << 8 | some[..., 2])  # (H, W) -> (colours,)
        colours = {(int(code) >> 16, int(code) >> 8 & 255, int(code) & 255) for code in codes}
    return Look(
        path=path,
        channels=pixels.values.ndim == 3,
        coloured=pixels.coloured,
        lossy=pixels.lossy,
        palette=pixels.own_colours,
        counts=dict(zip(values.tolist(), numbers.tolist(), strict=True)),
        colours=frozenset(colours),
    )


def take_sample(parts: Mapping[str, MaskPairs], tolerant: bool) -> Sample:
    """Read some masks of each split.

    Args:
        parts: The images and masks, by split.
        tolerant: Whether masks that cannot be read are left to the check of the content.

    Raises:
        UserError: If one cannot be read.
    """
    paths = [pairs.mask(stem) for pairs in parts.values() for stem in spread(pairs.stems)]
    return read_sample(paths, tolerant)


def read_sample(paths: Sequence[Path], tolerant: bool) -> Sample:
    """Read masks; see :func:`take_sample`."""
    found = []
    for path in paths:
        try:
            found.append(look_at(path))
        except UserError:
            if not tolerant:
                raise
    return Sample(tuple(found))


def conversion_of(sample: Sample, table: ClassTable | None, binary: bool) -> tuple[Conversion, str]:
    """Tell how masks become index masks.

    Args:
        sample: Some of them.
        table: The classes, where a file names them.
        binary: Whether the user says that they are black and white.

    Returns:
        The conversion, and what it does in words; nothing where the masks stay as they are.

    Raises:
        UserError: If they cannot become index masks.
    """
    few = table is None or len(table.names) <= len(TWO_CLASSES)
    if binary:
        if table is not None and not few:
            raise UserError(f'--binary: {table.path} names {len(table.names)} classes; black and white make two')
        return Conversion('threshold'), f'read as black and white: {HALF} and above is the second class'
    if sample.coloured:
        return _of_colours(sample, table)
    if table is not None and _drawn_by(sample, table):
        return _named_colours(table), f'read by the colours in {table.path.name}'
    black_and_white = _black_and_white(sample) if few and not sample.palettes - _BLACK_AND_WHITE else None
    if black_and_white is not None:
        return black_and_white
    if sample.lossy is not None:
        raise UserError(_lossy(sample.lossy))
    if table is not None and table.colours and _by_palette(sample, table):
        return _named_colours(table), 'read by the colours of their palettes'
    if sample.channels:
        return Conversion('grey'), 'have equal channels, of which one is read'
    return INDEX_MASKS, ''


def two_names(names: Sequence[str] | None) -> tuple[str, ...]:
    """Return the names of black and white masks: one alone gets the background before it."""
    if not names:
        return TWO_CLASSES
    return (BACKGROUND, *names) if len(names) == 1 else tuple(names)


def holds_two(sample: Sample) -> bool:
    """Tell whether index masks hold the labels 0 and 1, and no other."""
    return {0, 1} <= set(sample.counts()) <= {0, 1, IGNORED}


_BLACK_AND_WHITE = {(number, colour) for number in (0, 1, 255) for colour in ((0, 0, 0), (255, 255, 255))}


def _black_and_white(sample: Sample) -> tuple[Conversion, str] | None:
    """Return the conversion of masks of 0 and 255, with few greys between; None if they are no such masks."""
    counts = sample.counts()
    total = sum(counts.values())
    if 255 in counts and set(counts) <= {0, 255}:
        return Conversion('binary'), 'black and white: 0 is the first class, 255 the second'
    if not counts or max(counts) < 255 - _EDGE or min(counts) > _EDGE or max(counts) > 255:
        return None
    lossy = sample.lossy is not None
    edge = _EDGE if lossy else 0
    between = sum(number for value, number in counts.items() if edge < value < 255 - edge) / total
    greys = sum(1 for value in counts if _EDGE < value < 255 - _EDGE)
    if between > _FEW_BETWEEN or not (lossy or greys):
        return None
    return Conversion('threshold'), f'black and white but for {100 * between:.1f} % of the pixels: cut at {HALF}'


def _of_colours(sample: Sample, table: ClassTable | None) -> tuple[Conversion, str]:
    path = sample.coloured[0].path
    lossy = next((mask.path for mask in sample.coloured if mask.lossy), None)
    if lossy is not None:
        raise UserError(_lossy(lossy))
    if table is not None and table.colours:
        return _named_colours(table), f'read by the colours in {table.path.name}'
    raise UserError(
        f'{path}: has 3 channels of different values, so it is a colour mask; found are '
        f'{shortlist(sample.colours(), 6)}. Give the colour of each class with --palette FILE, {HOW_TO_WRITE}'
    )


def _drawn_by(sample: Sample, table: ClassTable) -> bool:
    """Tell whether masks without a colour but black and white, or greys, are those of a table."""
    known = {*table.colours, *table.ignored}
    if known == {(0, 0, 0), (255, 255, 255)}:
        return not sample.palettes and sample.lossy is None and set(sample.counts()) == {0, 255}
    return sample.channels and set(sample.colours()) <= known


def _by_palette(sample: Sample, table: ClassTable) -> bool:
    """Tell whether the palettes must be read: their colours are those of the table, but not in its order."""
    found = sample.palettes
    known = dict.fromkeys(table.ignored, IGNORED) | {colour: label for label, colour in enumerate(table.colours)}
    if not found or all(known.get(colour) == number for number, colour in found):
        return False
    return all(colour in known for _, colour in found) or bool(
        disagreement([(mask.path, mask.palette) for mask in sample.masks])
    )


def _named_colours(table: ClassTable) -> Conversion:
    return Conversion('colours', table.colours, table.ignored, str(table.path))


def _lossy(path: Path) -> str:
    return (
        f'{path}: is a JPEG file, which blurs class numbers and colours into ones that mean nothing; save the masks as '
        'PNG from their source. Masks of black and white can be read with --binary'
    )
