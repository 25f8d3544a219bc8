"""What index masks hold: labels, sizes and palettes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from emo_mm.data.layouts.base import Colour
from emo_mm.data.layouts.masks.convert import INDEX_MASKS, Conversion
from emo_mm.data.layouts.masks.pairs import MaskPairs
from emo_mm.data.layouts.masks.pixels import IGNORED, NO_IMAGE, read_pixels
from emo_mm.data.layouts.masks.table import HOW_TO_WRITE
from emo_mm.data.splits import count, shortlist
from emo_mm.errors import UserError
from emo_mm.runtime.colours import class_colours
from emo_mm.runtime.images import FORMATS, upright_size

CHECKED_MASKS = 50  # per split: at most some seconds, and a wrong labelling shows in nearly every mask


def read_mask(path: Path) -> np.ndarray:
    """Read an index mask.

    Returns:
        Labels of shape (height, width), uint8.

    Raises:
        UserError: If the file is no image, has several channels, or labels that do not fit in 8 bits.
    """
    return INDEX_MASKS.apply(path)


def spread(stems: Sequence[str], most: int = CHECKED_MASKS) -> list[str]:
    """Return at most so many items, evenly over the whole sequence."""
    if len(stems) <= most:
        return list(stems)
    return [stems[index * len(stems) // most] for index in range(most)]


def check_labels(pairs: MaskPairs, labels: int, how: Conversion = INDEX_MASKS) -> int:
    """Check masks, at most 50 spread over the split: size as their image's, labels declared, some not ignored.

    Args:
        pairs: The images and masks.
        labels: Number of labels allowed: 0 to ``labels - 1``, and 255 for ignored pixels.
        how: How the masks become index masks.

    Returns:
        Number of masks checked.

    Raises:
        UserError: If a mask is not as it must be.
    """
    stems = spread(pairs.stems)
    if how.kind == 'labels':
        check_palettes([pairs.mask(stem) for stem in stems])
    seen: set[int] = set()
    for stem in stems:
        seen |= _labels_of(pairs.mask(stem), pairs.image(stem), labels, how)
    require_labels(pairs.mask_dir, sorted(seen), labels, len(stems))
    return len(stems)


def _labels_of(path: Path, image: Path, labels: int, how: Conversion) -> set[int]:
    """Return the labels of a mask, which must have the size of its image and no label that is not declared."""
    mask, shape = how.apply(path), image_shape(image)
    if mask.shape != shape:
        raise UserError(
            f'{path}: is {mask.shape[1]}x{mask.shape[0]} but its image is {shape[1]}x{shape[0]} '
            '(as shown, after any rotation in its EXIF data)'
        )
    present = set(np.unique(mask).tolist())
    foreign = sorted(label for label in present if labels <= label < IGNORED)
    if foreign:
        hint = f' (if 0 is a class too, {labels + 1} names are needed)' if foreign == [labels] else ''
        raise UserError(
            f'{path}: holds {count(len(foreign), "label")} beyond the {count(labels, "class", "classes")} 0 to '
            f'{labels - 1}: {shortlist(foreign)}; declare their names or set those pixels to {IGNORED}{hint}'
        )
    return present


def require_labels(mask_dir: Path, seen: Sequence[int], labels: int, checked: int) -> None:
    """Check that masks, together, hold something to learn.

    Args:
        mask_dir: Their folder.
        seen: The labels that they hold.
        labels: Number of labels allowed.
        checked: Number of masks looked into.

    Raises:
        UserError: If they hold nothing but ignored pixels, or these and label 0.
    """
    used = [label for label in seen if label != IGNORED]
    if not used or (IGNORED in seen and used == [0]):
        only = 'only label 0' if used else 'no label'
        names = '' if labels > 1 else ', and the two classes named (the background first)'
        raise UserError(
            f'{mask_dir}: {count(checked, "mask")} checked and {only} found besides {IGNORED}, which is '
            f'ignored; in masks of 0 and {IGNORED}, {IGNORED} must be rewritten as 1{names}'
        )
    if labels == 1:
        raise UserError(
            f'{mask_dir}: there is one class only, and each pixel is of it or ignored: nothing can be learned; name '
            'the background too, as the first class'
        )


def check_palettes(paths: Sequence[Path]) -> None:
    """Check that masks with palettes give each label one colour.

    Programs that save a colour mask with few colours number them anew in each file: by frequency, or as they come.

    Raises:
        UserError: If the same label has two colours.
    """
    fault = disagreement([(path, _palette_of(path)) for path in paths])
    if fault:
        raise UserError(
            f'{fault}; write the masks with one palette, or as grey images of class numbers, or give the colours of '
            f'the classes with --palette FILE, {HOW_TO_WRITE}'
        )


def disagreement(palettes: Sequence[tuple[Path, Mapping[int, Colour]]]) -> str:
    """Return which two masks give a label two colours, in words; empty if none do."""
    known: dict[int, tuple[Colour, Path]] = {}
    for path, colours in palettes:
        for label, colour in colours.items():
            first, where = known.setdefault(label, (colour, path))
            if first != colour:
                return (
                    f'{where} and {path}: label {label} is {first} in the palette of one and {colour} in that of the '
                    'other, so their labels may mean different classes'
                )
    return ''


def _palette_of(path: Path) -> Mapping[int, Colour]:
    try:
        return read_pixels(path).own_colours
    except UserError:
        return {}  # the caller says so


def palette_classes(pairs: MaskPairs, tolerant: bool = False) -> tuple[tuple[str, ...], list[Colour]] | None:
    """Make classes from masks with a palette: ``class_0``, ... up to the largest label of all masks of the split.

    Args:
        pairs: The images and masks.
        tolerant: Whether masks that cannot be read are left to the check of the content.

    Returns:
        The names, and the palette's colours as triples of R, G, B in 0..255; None if the masks have no palette.
    """
    colours: list[int] = []
    largest = -1
    for stem in pairs.stems:
        try:
            labels = read_mask(pairs.mask(stem))
            colours = colours or _palette(pairs.mask(stem))
        except UserError:
            if not tolerant:
                raise
            continue
        if not colours:
            return None
        known = labels[labels != IGNORED]  # (H, W) -> (known pixels,)
        largest = max(largest, int(known.max()) if known.size else -1)
    if not colours:
        return None
    # a palette may hold fewer colours than labels; the missing ones are filled with our own
    triples = [(colours[start], colours[start + 1], colours[start + 2]) for start in range(0, len(colours), 3)]
    triples = triples[: largest + 1] + class_colours(largest + 1)[len(triples) :]
    return tuple(f'class_{label}' for label in range(largest + 1)), triples


def _palette(path: Path) -> list[int]:
    """Return the palette of a sound image, R, G, B of each colour after the other; empty without one."""
    with Image.open(path, formats=FORMATS) as image:
        return image.getpalette() or []


def image_shape(path: Path) -> tuple[int, int]:
    """Return height and width as decoded for training, that is turned as the EXIF data say."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            width, height = upright_size(image)
    except NO_IMAGE as error:
        raise UserError(f'{path}: cannot be read as an image ({error})') from error
    return height, width
