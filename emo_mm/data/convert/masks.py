"""Index masks beside their images: ``img_dir/<split>``, ``ann_dir/<split>`` and ``CLASSES.txt``, read with no flag."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from emo_mm.data.convert.source import NewNames, open_source
from emo_mm.data.files.bar import file_bar
from emo_mm.data.layouts.base import DERIVED
from emo_mm.data.layouts.masks import MaskSplit
from emo_mm.data.layouts.masks.convert import MaskSource
from emo_mm.data.layouts.masks.labels import image_shape
from emo_mm.data.layouts.masks.table import read_table
from emo_mm.data.splits import DataRequest, count, shortlist
from emo_mm.errors import UserError
from emo_mm.runtime.colours import class_colours
from emo_mm.tasks import TASKS

# As many colours as labels, so that none is cut to fewer bits; without black and white, by which masks of two classes
# are told.
_PALETTE = [value for colour in class_colours(256) for value in colour]


def write_masks(request: DataRequest, target: Path) -> list[str]:
    """Write images with index masks, from masks of any kind or from outlines.

    Args:
        request: The data set.
        target: A new folder.

    Returns:
        Lines that tell what was written.

    Raises:
        UserError: If the source has a fault.
    """
    source = open_source(request, TASKS['seg'])
    classes = source.names.classes
    lines = [*source.told, f'{count(len(classes), "class", "classes")}: {shortlist(classes)}']
    target.mkdir()
    for split, checked in source.checked.items():
        if not checked.annotated:
            lines.append(f'{split}: left out, as it has no labels')
            continue
        number = _write_split(target, split, checked)
        notes = [note for note in checked.notes if DERIVED not in note]  # nothing is written to a work directory here
        lines += [f'{split}: {count(number, "image")} with masks', *(f'  note: {note}' for note in notes)]
    _write_classes(target / 'CLASSES.txt', classes)
    return lines


def _write_split(target: Path, split: str, checked: MaskSplit) -> int:
    """Write the images and masks of a split; return how many."""
    folders = target / 'img_dir' / split, target / 'ann_dir' / split
    for folder in folders:
        folder.mkdir(parents=True)
    sources = checked.sources()
    images = [checked.pairs.image(name) for name in sources]
    names = NewNames(set()).of(images, split)
    rows = zip(images, sources.values(), names, strict=True)
    with file_bar(len(images), f'writing masks ({split})') as bar:
        for image, source, name in rows:
            shutil.copyfile(image, folders[0] / name)
            _write_mask(folders[1] / f'{Path(name).stem}.png', _labels(source, image))
            bar.update()
    return len(images)


def _labels(source: MaskSource, image: Path) -> np.ndarray:
    """Return the labels of a mask, which has the size of its image."""
    labels, shape = source.make(), image_shape(image)
    if labels.shape != shape:
        sizes = f'{labels.shape[1]}x{labels.shape[0]} but its image is {shape[1]}x{shape[0]}'
        raise UserError(f'{source.path}: its mask is {sizes} (as shown, after any rotation in its EXIF data)')
    return labels


def _write_mask(path: Path, labels: np.ndarray) -> None:
    picture = Image.fromarray(labels)
    picture.putpalette(_PALETTE)  # turns grey values into an indexed picture of the same values
    picture.save(path)


def _write_classes(path: Path, classes: Sequence[str]) -> None:
    """Write the list of classes such that a training reads these very names.

    Raises:
        UserError: If no list can hold them.
    """
    numbered = ['label, name', *(f'{label}, {name}' for label, name in enumerate(classes))]
    for lines in (classes, numbered):
        path.write_text(''.join(f'{line}\n' for line in lines), encoding='utf-8')
        try:
            if read_table(path).names == tuple(classes):
                return
        except UserError:
            continue
    raise UserError(f'a list of classes cannot hold the names {shortlist(map(repr, classes))}; rename them')
