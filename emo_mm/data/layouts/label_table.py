"""Tables of images and their classes: ``train.csv`` with a column of paths and one of labels."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from emo_mm.data.splits import IMAGE_SUFFIXES, count, shortlist
from emo_mm.errors import UserError

_PATHS = ('path', 'filepath', 'file_path', 'image_path', 'img_path', 'file', 'filename', 'file_name', 'image', 'img',
          'image_name', 'image_id', 'id', 'name')  # fmt: skip
_LABELS = ('label', 'labels', 'class', 'class_name', 'category', 'target', 'species', 'breed', 'y')
_PROBED = 20


def is_table(path: str) -> bool:
    """Tell whether a file is such a table, by its name."""
    return path.lower().endswith(('.csv', '.tsv'))


def read_table(path: Path) -> tuple[Path, dict[str, tuple[str, ...]]]:
    """Return the folder that the names of a table start from, and the images of each class in label order.

    The first line may name the columns. Without names the first column is the path and the second the label. Paths may
    start from the folder of the table, from ``images/`` or from a folder that is called like the table, and may lack
    their type (``.jpg``). Labels that are numbers are ordered as numbers.

    Raises:
        UserError: If it cannot be read, a line lacks a column, a path has two labels, or images are missing.
    """
    rows = _rows(path)
    first = [cell.lower() for cell in rows[0]]
    image = next((first.index(name) for name in _PATHS if name in first), None)
    label = next((first.index(name) for name in _LABELS if name in first), None)
    if image is None or label is None:
        if not (len(first) == 2 and _is_image(first[0])):
            raise UserError(
                f'{path}: its columns are not known ({shortlist(rows[0])}); the first line must be path,label'
            )
        image, label = 0, 1
    else:
        rows = rows[1:]
    short = next((row for row in rows if len(row) <= max(image, label) or not row[image] or not row[label]), None)
    if short is not None or not rows:
        raise UserError(f'{path}: the line {",".join(short or ())!r} lacks a path or a label; complete or delete it')
    labels: dict[str, str] = {}
    for row in rows:
        name = row[image].replace('\\', '/')
        if labels.setdefault(name, row[label]) != row[label]:
            raise UserError(f'{path}: {name} has two labels, {labels[name]} and {row[label]}; keep one of the lines')
    folder, ending = _place(path, list(labels))
    classes = sorted(set(labels.values()), key=lambda name: (int(name), '') if name.isdecimal() else (-1, name))
    return folder, {
        wanted: tuple(f'{name}{ending}' for name, own in labels.items() if own == wanted) for wanted in classes
    }


def _rows(path: Path) -> list[list[str]]:
    try:
        text = path.read_text(encoding='utf-8-sig')
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'{path}: cannot be read as a table of images and labels ({error})') from error
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise UserError(f'{path}: is empty; expected are lines of path,label')
    delimiter = max(',;\t', key=lines[0].count)
    return [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=delimiter)]


def _is_image(name: str) -> bool:
    return name.lower().endswith((*IMAGE_SUFFIXES, '.webp', '.tiff'))


def _place(path: Path, names: Sequence[str]) -> tuple[Path, str]:
    """Return the folder where all images of a table are, and the type that their names lack.

    Raises:
        UserError: If some are missing.
    """
    folders = [path.parent, path.parent / 'images', path.parent / path.stem, path.parent / 'images' / path.stem]
    folders += [path.parent.parent, path.parent.parent / 'images']
    endings = [''] if _is_image(names[0]) else ['', *IMAGE_SUFFIXES]
    places = [(folder, ending) for folder in folders for ending in endings]
    folder, ending = max(places, key=lambda at: sum((at[0] / f'{name}{at[1]}').is_file() for name in names[:_PROBED]))
    absent = [name for name in names if not (folder / f'{name}{ending}').is_file()]
    if absent:
        raise UserError(
            f'{path}: {len(absent)} of {count(len(names), "image")} are not in {folder}: {shortlist(absent, 3)}; '
            'paths must start from the folder of the table or from images/ in it'
        )
    return folder, ending
