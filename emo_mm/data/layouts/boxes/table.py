"""Tables of boxes: a CSV file per split with a line per box: ``path,xmin,ymin,xmax,ymax,label``.

With a header the columns may be in any order, as those of TensorFlow and Roboflow are; without one they are in this
order, as RetinaNet's are. A line without coordinates stands for an image without a box. ``classes.csv`` (``name,id``)
gives the order of the classes; else the alphabet does.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import ClassVar

from emo_mm.data.boxes import Box, BoxSet, LabelFault
from emo_mm.data.layouts.boxes.base import (
    BoxLayout,
    BoxPlace,
    ImageFinder,
    Label,
    NamedImage,
    is_path,
    named_boxes,
    number,
    read_text,
    split_names,
)
from emo_mm.data.splits import inside
from emo_mm.errors import UserError

# What each column may be called.
_HEADERS = {
    'path': ('path', 'filename', 'image', 'file', 'image_path', 'img_path', 'image_name', 'file_name', 'filepath'),
    'xmin': ('xmin', 'x1', 'x_min', 'left'),
    'ymin': ('ymin', 'y1', 'y_min', 'top'),
    'xmax': ('xmax', 'x2', 'x_max', 'right'),
    'ymax': ('ymax', 'y2', 'y_max', 'bottom'),
    'label': ('label', 'class', 'class_name', 'name', 'category', 'classname'),
}
_FOLDERS = ('', 'annotations/', 'data/')
_PATTERNS = ('{}.csv', '{}_labels.csv', '{}_annotations.csv', '{}/_annotations.csv', '{}/annotations.csv')


class TableLayout(BoxLayout):
    """CSV files of boxes."""

    name = 'CSV files of boxes'
    looks_like = 'train.csv with lines path,xmin,ymin,xmax,ymax,label'
    usual: ClassVar[str] = '{split}.csv with lines path,xmin,ymin,xmax,ymax,label'

    def files_of(self, root: Path, split: str) -> tuple[Path, ...]:
        """Return the table of a split."""
        paths = (
            root / f'{folder}{pattern.format(name)}'
            for folder in _FOLDERS
            for pattern in _PATTERNS
            for name in split_names(split)
        )
        return next(((path,) for path in paths if self.takes(path)), ())

    def whole_file(self, root: Path) -> Path | None:
        """Return the only table of boxes in the folder."""
        tables = [path for path in sorted(root.glob('*.csv')) if self.takes(path)]
        return tables[0] if len(tables) == 1 else None

    def takes(self, path: Path) -> bool:
        """Take a table whose first line has the columns of boxes."""
        if path.suffix != '.csv' or not path.is_file():
            return False
        with path.open(encoding='utf-8-sig', errors='replace', newline='') as file:
            return _columns(file.readline().rstrip('\r\n').replace('"', '').split(',')) is not None

    def read_boxes(self, place: BoxPlace) -> BoxSet:
        """Return the boxes of all lines."""
        (path,) = place.sources
        rows = _rows(path)
        columns = _columns(rows[0][1]) if rows else None
        if columns is None:
            raise UserError(f'{path}: has no columns path, xmin, ymin, xmax, ymax, label')
        own, names = path.parent, split_names(place.split)
        folders = [base / kind / name for base in (own, place.root) for kind in ('', 'images') for name in ('', *names)]
        finder = ImageFinder([*([place.images] if place.images else []), *folders, own.parent])
        images: dict[str, list[Label]] = {}
        for line, row in rows[_is_header(rows[0][1]) :]:
            cells = [row[index].strip() if index < len(row) else '' for index in columns]
            label = _label(cells, f'{inside(place.root, path)}:{line}')
            if not is_path(cells[0]) or not cells[0]:
                raise UserError(f'{path}:{line}: {cells[0][:80]!r} is no name of a file')
            images.setdefault(cells[0], []).extend([] if label is None else [label])
        found = [NamedImage(finder.find(name) or own / name, labels) for name, labels in images.items()]
        return named_boxes(place, found, _classes(place.root))


CSV = TableLayout()


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """Return the lines of a table that are not empty, with their numbers."""
    reader = csv.reader(read_text(path).splitlines())
    try:
        return [(reader.line_num, row) for row in reader if any(row)]
    except csv.Error as error:
        raise UserError(f'{path}:{reader.line_num}: is not valid CSV ({error})') from None


def _is_header(row: list[str]) -> bool:
    return any(cell.strip().lower() in _HEADERS['xmin'] for cell in row)


def _columns(row: list[str]) -> list[int] | None:
    """Return where path, sides and label are, by the first line of a table; None if it is no table of boxes."""
    cells = [cell.strip().lower() for cell in row]
    if _is_header(row):
        found = [next((cells.index(name) for name in names if name in cells), -1) for names in _HEADERS.values()]
        return None if -1 in found else found
    sides = cells[1:5]
    numbers = all(side == '' or number(side) is not None for side in sides)
    return list(range(6)) if len(cells) == 6 and cells[0] and numbers else None


def _label(cells: list[str], source: str) -> Label | None:
    """Return the box of a line; None where it has no coordinates."""
    _, *texts, name = cells
    if not any(texts):
        return None
    sides = [number(text) for text in texts]
    left, top, right, bottom = sides
    if left is None or top is None or right is None or bottom is None or not name:
        return name, LabelFault(source, f'{",".join([*texts, name])!r}; expected are four numbers and a label')
    return name, Box(0, left, top, right - left, bottom - top, source=source)


def _classes(root: Path) -> tuple[str, ...]:
    """Return the classes that ``classes.csv`` lists, by their numbers."""
    path = root / 'classes.csv'
    if not path.is_file():
        return ()
    try:
        return tuple(name for _, name in sorted((int(label), name.strip()) for _, (name, label) in _rows(path)))
    except ValueError:
        raise UserError(f'{path}: each line must be a class name and its number, as in cat,0') from None
