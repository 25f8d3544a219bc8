"""Index masks made from masks of other kinds, and copies of them for a run to read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from emo_mm.data.files.bar import file_bar
from emo_mm.data.files.check import FileAnswer, check_mask
from emo_mm.data.layouts.base import Colour
from emo_mm.data.layouts.masks.pixels import IGNORED, Pixels, read_pixels
from emo_mm.data.splits import shortlist
from emo_mm.errors import UserError
from emo_mm.files import atomic_write, write_json
from emo_mm.machine import available_cores

RECORD = 'conversion.json'  # beside the copies
HALF = 128  # from here on, a grey is white

Kind = Literal['labels', 'grey', 'binary', 'threshold', 'colours']


class MaskError(UserError):
    """A mask that cannot be converted.

    Args:
        path: The mask.
        kind: What is wrong, in the words by which faults are counted.
        detail: What exactly.
    """

    def __init__(self, path: Path, kind: str, detail: str) -> None:
        super().__init__(f'{path}: {kind}: {detail}')
        self.kind = kind
        self.detail = detail


@dataclass(frozen=True)
class Conversion:
    """How masks become index masks.

    Attributes:
        kind: ``labels`` are index masks already, ``grey`` ones in several equal channels, ``binary`` those of 0 and
            255, ``threshold`` those of black and white with greys between, ``colours`` those of a class table.
        colours: The colours of the classes, in label order.
        ignored: The colours of ignored pixels.
        table: The file of the class table.
        labels: Label to what it becomes, where it does not stay.
    """

    kind: Kind = 'labels'
    colours: tuple[Colour, ...] = ()
    ignored: tuple[Colour, ...] = ()
    table: str = ''
    labels: tuple[tuple[int, int], ...] = ()

    @property
    def changes(self) -> bool:
        """Whether masks are other ones afterwards."""
        return self.kind != 'labels' or bool(self.labels)

    def apply(self, path: Path) -> np.ndarray:
        """Return the labels of a mask, shape (height, width), uint8.

        Raises:
            UserError: If it is no image.
            MaskError: If it is not a mask of the kind.
        """
        return self.moved(_READERS[self.kind](self, path, read_pixels(path)))

    def moved(self, labels: np.ndarray) -> np.ndarray:
        """Return labels as what they become."""
        if not self.labels:
            return labels
        table = np.arange(256, dtype=np.uint8)
        for label, other in self.labels:
            table[label] = other
        return table[labels]


INDEX_MASKS = Conversion()


def index_labels(path: Path, pixels: Pixels) -> np.ndarray:
    """Return the labels of an index mask.

    Raises:
        UserError: If it has several channels, or labels that do not fit in 8 bits.
    """
    labels = pixels.values
    if labels.ndim != 2:
        raise UserError(
            f'{path}: has {labels.shape[-1]} channels; an index mask is expected, one channel whose values are class '
            'numbers, so colour masks must be converted first'
        )
    if labels.dtype != np.uint8 and labels.size and not 0 <= int(labels.min()) <= int(labels.max()) <= 255:
        raise UserError(f'{path}: labels run from {labels.min()} to {labels.max()}; mmseg reads 0 to 255')
    return labels.astype(np.uint8)


def _grey(how: Conversion, path: Path, pixels: Pixels) -> np.ndarray:
    if pixels.coloured:
        raise MaskError(path, 'coloured mask', 'the other masks hold class numbers in equal channels')
    return index_labels(path, Pixels(pixels.numbers))


def _binary(how: Conversion, path: Path, pixels: Pixels) -> np.ndarray:
    numbers = pixels.numbers
    other = numbers[(numbers != 0) & (numbers != 255)]
    if pixels.coloured or other.size:
        found = 'colours' if pixels.coloured else f'{shortlist(np.unique(other), 5)} in {other.size} pixels'
        raise MaskError(path, 'mask that is not black and white', f'{found}; other masks hold 0 and 255')
    return (numbers == 255).astype(np.uint8)


def _threshold(how: Conversion, path: Path, pixels: Pixels) -> np.ndarray:
    if pixels.values.ndim == 3:
        channels = pixels.values.astype(np.int16)
        if ((channels.max(-1) - channels.min(-1)) > HALF // 2).mean() > 0.01:  # JPEG tints edges a little
            raise MaskError(path, 'coloured mask', '--binary takes black and white ones')
        return (channels.mean(-1) >= HALF).astype(np.uint8)
    numbers = pixels.numbers
    if numbers.size and numbers.max() <= 1:
        return numbers.astype(np.uint8)
    return (numbers >= HALF).astype(np.uint8)


def _colours(how: Conversion, path: Path, pixels: Pixels) -> np.ndarray:
    values = pixels.values
    if pixels.palette:
        table = np.zeros((256, 3), np.uint8)
        for number, colour in pixels.palette.items():
            table[number] = colour
        coloured = table[values]
    else:
        coloured = values if values.ndim == 3 else np.repeat(index_labels(path, pixels)[..., None], 3, axis=2)
    code = (coloured.astype(np.int32) * (65536, 256, 1)).sum(-1)  # (H, W, 3) -> (H, W)
    labels = _labels_of_codes(how.colours, how.ignored)[code]
    if pixels.palette:
        labels[(values == IGNORED) & (labels < 0)] = IGNORED
    unknown = code[labels < 0]
    if unknown.size:
        found = zip(*np.unique(unknown, return_counts=True), strict=True)
        shown = [f'({c >> 16}, {c >> 8 & 255}, {c & 255}) in {number} pixels' for c, number in found]
        raise MaskError(path, 'colour without a class', f'{shortlist(shown, 3)}; {how.table} does not name it')
    return labels.astype(np.uint8)


@lru_cache(maxsize=1)
def _labels_of_codes(colours: tuple[Colour, ...], ignored: tuple[Colour, ...]) -> np.ndarray:
    """Return the label of each colour, by its number of 24 bits; -1 for those that are not known."""
    table = np.full(1 << 24, -1, np.int16)
    for label, (red, green, blue) in (*enumerate(colours), *((IGNORED, colour) for colour in ignored)):
        table[red << 16 | green << 8 | blue] = label
    return table


_READERS: Mapping[Kind, Callable[[Conversion, Path, Pixels], np.ndarray]] = {
    'labels': lambda how, path, pixels: index_labels(path, pixels),
    'grey': _grey,
    'binary': _binary,
    'threshold': _threshold,
    'colours': _colours,
}


# --- copies of converted masks
@dataclass(frozen=True)
class MaskSource:
    """What an index mask is made from.

    Attributes:
        path: The user's mask, or image, of which faults are told.
        version: Two numbers that differ once another mask would be made.
        make: Returns the labels, (height, width), uint8; raises ``UserError``, for a single fault ``MaskError``.
    """

    path: str
    version: tuple[int, int]
    make: Callable[[], np.ndarray]


def converted(path: Path, how: Conversion) -> MaskSource:
    """Return the source of a mask that is converted.

    Raises:
        OSError: If it is not there.
    """
    status = path.stat()
    return MaskSource(str(path.absolute()), (status.st_size, status.st_mtime_ns), partial(_labels, path, how))


def _labels(path: Path, how: Conversion) -> np.ndarray:
    try:
        return how.apply(path)
    except MaskError:
        raise
    except UserError as error:
        answer = check_mask(str(path))
        kind, detail = (answer.kind, answer.detail) if answer.kind else ('damaged mask', str(error).partition(': ')[2])
        raise MaskError(path, kind, detail) from error


@dataclass(frozen=True)
class Copied:
    """The source of a mask that was made.

    Attributes:
        source: The user's mask or image.
        version: That of its source.
        answer: What is wrong with it; without a fault there is a copy.
    """

    source: str
    version: tuple[int, int]
    answer: FileAnswer


def write_copies(sources: Mapping[str, MaskSource], how: str, folder: Path) -> dict[str, Copied]:
    """Write masks to ``folder/<name>.png``; those whose source is as it was stay.

    Args:
        sources: Name to the source of the mask.
        how: What they have in common; all of them are written again where it differs.
        folder: Where to; what else lies there is removed. Made if absent.

    Returns:
        Name to what was made of its source.

    Raises:
        OSError: If the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    known = read_record(folder, how)
    for name in set(known) - set(sources):
        (folder / f'{name}.png').unlink(missing_ok=True)

    def copy(name: str) -> Copied:
        source, target = sources[name], folder / f'{name}.png'
        before = known.get(name)
        if before == Copied(source.path, source.version, FileAnswer()) and target.is_file():
            return before
        return Copied(source.path, source.version, _write(source, target))

    names = sorted(sources)
    copied = {}
    with ThreadPoolExecutor(available_cores()) as pool, file_bar(len(names), 'writing masks') as bar:
        for name, made in zip(names, pool.map(copy, names), strict=True):
            copied[name] = made
            bar.update()
    rows = {name: [one.source, *one.version, one.answer.kind, one.answer.detail] for name, one in copied.items()}
    write_json(folder / RECORD, {'how': how, 'masks': rows})
    return copied


def read_record(folder: Path, how: str | None = None) -> dict[str, Copied]:
    """Return what was made of which mask in a folder of copies; nothing for another folder, or another conversion."""
    try:
        record = json.loads((folder / RECORD).read_text())
        if how is not None and record['how'] != how:
            return {}
        rows = record['masks'].items()
        return {name: Copied(row[0], (row[1], row[2]), FileAnswer(row[3], row[4])) for name, row in rows}
    except (OSError, ValueError, KeyError, IndexError):
        return {}


def _write(source: MaskSource, target: Path) -> FileAnswer:
    """Write a mask and return nothing wrong, or return what is wrong."""
    try:
        labels = source.make()
    except MaskError as error:
        target.unlink(missing_ok=True)
        return FileAnswer(error.kind, error.detail)
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(target, durable=False) as file:
        Image.fromarray(labels).save(file, format='PNG', compress_level=1)
    return FileAnswer()
