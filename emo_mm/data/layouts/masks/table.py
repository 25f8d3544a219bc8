"""Lists of classes that lie beside masks: names alone, or names with the colours that colour masks are drawn in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from emo_mm.data.layouts.base import Colour
from emo_mm.data.layouts.masks.pairs import MASK_FOLDERS
from emo_mm.data.splits import SPLIT_NAMES, inside, read_classes, shortlist
from emo_mm.errors import UserError

# Names of files, the most usual first: of names, and of names with colours (CVAT's, several tools', CamVid's).
TABLE_FILES = ('labelmap.txt', 'class_dict.csv', 'label_colors.txt')
CLASS_FILES = ('CLASSES.txt', 'classes.txt', 'labels.txt', *TABLE_FILES, '_classes.csv')
HOW_TO_WRITE = 'a text file with a line name,red,green,blue for each class'

_SPLIT_FOLDERS = tuple(name for names in SPLIT_NAMES.values() for name in names)
_RGB = re.compile(r'(?<![\w.])(\d{1,3})[\s,;]+(\d{1,3})[\s,;]+(\d{1,3})(?![\w.])')
_HEX = re.compile(r'#([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})(?!\w)')
_MARKS = ' \t,;:"\''
_NUMBERED = re.compile(r'(\d+)\s*[,;]\s*(.+)')


@dataclass(frozen=True)
class ClassTable:
    """The classes of a file.

    Attributes:
        path: The file.
        names: Class names in label order.
        colours: The colour (R, G, B in 0..255) of each; empty where the file gives none.
        ignored: Colours of pixels that are of no class.
    """

    path: Path
    names: tuple[str, ...]
    colours: tuple[Colour, ...] = ()
    ignored: tuple[Colour, ...] = ()


def find_class_file(root: Path, names: tuple[str, ...] = CLASS_FILES) -> Path | None:
    """Return a file of class names in the root, among the masks, or in the folder of a split.

    Raises:
        UserError: If the folders of two splits have such files that differ.
    """
    for folder in ('', *MASK_FOLDERS):
        if path := _first(root / folder, names):
            return path
    found = [path for folder in _SPLIT_FOLDERS if (path := _first(root / folder, names))]
    for path in found[1:]:
        if path.read_bytes() != found[0].read_bytes():
            raise UserError(f'{found[0]} and {path}: name different classes; give one list with --classes FILE')
    return found[0] if found else None


def read_table(path: Path) -> ClassTable:
    """Read class names, and their colours where there are any.

    Besides the lists that ``read_classes`` takes: a name and a colour on each line, in either order, be it ``r,g,b`` or
    ``#rrggbb``, with or without a heading (CVAT's ``labelmap.txt``, ``class_dict.csv``, CamVid's
    ``label_colors.txt``); and Roboflow's ``_classes.csv``, a heading and ``label, name`` on each line.

    Raises:
        UserError: If it cannot be read, a colour is no colour, or a name or a colour stands there twice.
    """
    try:
        text = path.read_text(encoding='utf-8-sig')
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'{path}: cannot be read as a text file of class names ({error})') from error
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith('# ')]
    coloured = [_colour_of(line) for line in lines]
    if lines and coloured[0] is None and all(coloured[1:]) and (len(lines) > 1 or lines[0].startswith('#')):
        lines, coloured = lines[1:], coloured[1:]  # the heading
    if lines and all(coloured):
        return _with_colours(path, lines, [colour for colour in coloured if colour])
    numbered = [_NUMBERED.fullmatch(line) for line in lines[1:]]
    if numbered and all(numbered) and not _NUMBERED.fullmatch(lines[0]):
        rows = sorted((int(match[1]), match[2].strip()) for match in numbered if match)
        if [label for label, _ in rows] != list(range(len(rows))):
            raise UserError(f'{path}: the labels must run 0, 1, 2, ... without gaps')
        return ClassTable(path, _distinct(path, [name for _, name in rows]))
    return ClassTable(path, tuple(read_classes(path)))


def require_colours(table: ClassTable) -> ClassTable:
    """Return a table that has colours.

    Raises:
        UserError: If it has none.
    """
    if not table.colours:
        raise UserError(f'--palette {table.path}: not every line has a colour; expected is {HOW_TO_WRITE}')
    return table


def join_tables(root: Path, names: ClassTable | None, colours: ClassTable | None) -> tuple[ClassTable | None, str]:
    """Return the classes of a list of names with the colours of a table.

    Args:
        root: The folder of the data set, for messages.
        names: The names, which also give the order; None takes those of the table. Colours of others are ignored.
        colours: The table; None if there is none.

    Returns:
        The classes, and where they come from, in words.

    Raises:
        UserError: If the table has no colour for one of the names.
    """
    if names is None or colours is None or names.path == colours.path or names.colours:
        table = names or colours
        return table, inside(root, table.path) if table else ''
    known = dict(zip(colours.names, colours.colours, strict=True))
    if missing := [name for name in names.names if name not in known]:
        raise UserError(
            f'{names.path}: {colours.path} has no colour for {shortlist(missing)}; it has {shortlist(known)}'
        )
    ignored = {name: colour for name, colour in known.items() if name not in names.names}
    source = f'{inside(root, names.path)} with the colours of {inside(root, colours.path)}'
    if ignored:
        source += f' ({shortlist(ignored)} is not named and ignored)'
    chosen = tuple(known[name] for name in names.names)
    return ClassTable(colours.path, names.names, chosen, tuple(ignored.values())), source


def _first(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _colour_of(line: str) -> tuple[str, ...] | None:
    match = _RGB.search(line) or _HEX.search(line)
    if match is None:
        return None
    numbers = [int(part, 16 if match.re is _HEX else 10) for part in match.groups()]
    before = line[: match.start()].strip(_MARKS)
    return (*map(str, numbers), before or line[match.end() :].strip(_MARKS))  # after a name may be more: parts, alpha


def _with_colours(path: Path, lines: list[str], rows: list[tuple[str, ...]]) -> ClassTable:
    numbered = [_NUMBERED.fullmatch(row[3]) for row in rows]
    if all(numbered):
        by_label = {int(match[1]): (*row[:3], match[2]) for match, row in zip(numbered, rows, strict=True) if match}
        if sorted(by_label) != list(range(len(rows))):
            raise UserError(f'{path}: the labels must run 0, 1, 2, ... without gaps')
        rows = [by_label[label] for label in range(len(rows))]
    colours = [(int(red), int(green), int(blue)) for red, green, blue, _ in rows]
    for line, colour, row in zip(lines, colours, rows, strict=True):
        if max(colour) > 255 or not row[3]:
            raise UserError(f'{path}: {line!r} is no class and colour; expected is name,red,green,blue, each 0 to 255')
    if twice := sorted({colour for colour in colours if colours.count(colour) > 1}):
        raise UserError(f'{path}: the colour {twice[0]} stands for several classes; each needs one of its own')
    return ClassTable(path, _distinct(path, [row[3] for row in rows]), tuple(colours))


def _distinct(path: Path, names: list[str]) -> tuple[str, ...]:
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f'{path}: class names must differ, but {shortlist(repeated)} is there more than once')
    return tuple(names)
