"""Tables as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

LEFT, CENTRE, RIGHT = '---', ':-:', '--:'


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: Its heading.
        cell: Its text for a row; empty where there is nothing to show.
        ruler: ``LEFT``, ``CENTRE`` or ``RIGHT``.
    """

    title: str
    cell: Callable[[Any], str]
    ruler: str = LEFT


def markdown_table(columns: Sequence[Column], rows: Iterable[Any]) -> str:
    """Return a table in Markdown; an empty cell becomes a hyphen."""
    lines = [[column.title for column in columns], [column.ruler for column in columns]]
    lines += [[column.cell(row) or '-' for column in columns] for row in rows]
    return '\n'.join(f'| {" | ".join(cells)} |' for cells in lines)
