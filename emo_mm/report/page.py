"""A report as one HTML file that needs nothing else: no network, no script, all pictures inside."""

from __future__ import annotations

import base64
import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from emo_mm.files import write_bytes

Cell = str | float | int | None

_TYPES = {'.png': 'image/png', '.jpg': 'image/jpeg', '.svg': 'image/svg+xml'}


@dataclass(frozen=True)
class Figure:
    """A number worth a place at the top.

    Attributes:
        name: What it is, with its unit.
        value: The number; None where it cannot be computed.
    """

    name: str
    value: Cell


@dataclass(frozen=True)
class Table:
    """A table; its first column names the rows.

    Attributes:
        columns: Heads of the columns.
        rows: The cells; None is shown as a dash.
        title: Line above it.
        caption: What must be known to read it.
        words: Numbers of the columns that hold words, which begin at the left; the others are numbers.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    title: str = ''
    caption: str = ''
    words: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Picture:
    """A picture inside the page.

    Attributes:
        title: What it shows, also for those who cannot see it.
        data: The bytes of its file.
        suffix: The ending of such a file: ``.png``, ``.jpg`` or ``.svg``.
        caption: What must be known to read it.
    """

    title: str
    data: bytes
    suffix: str
    caption: str = ''

    @property
    def uri(self) -> str:
        """The picture as an address that holds it."""
        return f'data:{_TYPES[self.suffix]};base64,{base64.b64encode(self.data).decode()}'

    @classmethod
    def of_file(cls, path: Path, title: str, caption: str = '') -> Picture:
        """Return the picture of a file."""
        return cls(title, path.read_bytes(), path.suffix, caption)


@dataclass(frozen=True)
class Section:
    """A part of a page, shown in this order.

    Attributes:
        title: Its heading.
        alerts: Texts that nobody must miss, before all others.
        paragraphs: Texts.
        lines: Lines in a fixed-width font: commands, logs.
        tables: Tables.
        pictures: Pictures.
    """

    title: str
    paragraphs: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    pictures: tuple[Picture, ...] = ()
    alerts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Page:
    """A page.

    Attributes:
        title: Its title.
        subtitle: What was looked at, when and where.
        headline: The numbers at the top.
        sections: The parts.
    """

    title: str
    subtitle: str
    headline: tuple[Figure, ...]
    sections: tuple[Section, ...]


def write_page(page: Page, path: Path) -> None:
    """Write a page as HTML, complete or not at all.

    Raises:
        OSError: If it cannot be written.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters['shown'] = shown
    text = files('emo_mm.report').joinpath('page.html').read_text(encoding='utf-8')
    write_bytes(path, environment.from_string(text).render(page=page).encode(errors='backslashreplace'))


def write_csv(columns: Sequence[str], rows: Sequence[Sequence[Cell]], path: Path) -> None:
    """Write a table as CSV (RFC 4180), numbers in full, complete or not at all.

    Raises:
        OSError: If it cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows([['' if _missing(cell) else cell for cell in row] for row in rows])
    write_bytes(path, text.getvalue().encode())


def shown(cell: Cell) -> str:
    """Return a cell as it is shown: three decimals, thousands apart, a dash for what there is not."""
    if _missing(cell):
        return '–'
    if isinstance(cell, float):
        return f'{cell:.3f}' if abs(cell) < 100 else f'{cell:,.0f}'
    return f'{cell:,}' if isinstance(cell, int) else str(cell)


def _missing(cell: Cell) -> bool:
    return cell is None or (isinstance(cell, float) and not math.isfinite(cell))
