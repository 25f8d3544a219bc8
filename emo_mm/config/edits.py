"""Changes of a config as data: what is changed, where, and what is said about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmengine.config import Config

REMOVED = object()  # the value of an edit that removes a key


@dataclass(frozen=True)
class Edit:
    """One change of a config.

    Attributes:
        place: Dotted keys of what is changed; numbers are indices of a list.
        value: The new value, or ``REMOVED``.
    """

    place: str
    value: Any


@dataclass(frozen=True)
class NewFile:
    """A file that a changed config reads.

    Attributes:
        path: Its place, in the work directory.
        text: Its content.
    """

    path: Path
    text: str


@dataclass(frozen=True)
class Change:
    """What one step does to a config.

    Attributes:
        edits: The changes.
        lines: What a user should read about them.
        files: What must be written for them; a dry run writes nothing.
    """

    edits: tuple[Edit, ...] = ()
    lines: tuple[str, ...] = ()
    files: tuple[NewFile, ...] = ()


@dataclass(frozen=True)
class Part:
    """A dict somewhere in a config.

    Attributes:
        place: Dotted keys that lead to it.
        node: The dict itself.
    """

    place: str
    node: dict[str, Any]

    def edit(self, **values: Any) -> tuple[Edit, ...]:
        """Return the edits that give keys of this dict new values; keys that have them already are left out."""
        return tuple(
            Edit(f'{self.place}.{key}', value)
            for key, value in values.items()
            if key not in self.node or self.node[key] != value
        )

    def remove(self, *keys: str) -> tuple[Edit, ...]:
        """Return the edits that remove keys of this dict; keys that it does not have are left out."""
        return tuple(Edit(f'{self.place}.{key}', REMOVED) for key in keys if key in self.node)


def join(changes: Iterable[Change]) -> Change:
    """Return several changes as one."""
    changes = list(changes)
    return Change(
        tuple(edit for change in changes for edit in change.edits),
        tuple(line for change in changes for line in change.lines),
        tuple(file for change in changes for file in change.files),
    )


def apply_edits(cfg: Config | dict[str, Any], edits: Iterable[Edit]) -> list[str]:
    """Apply edits to a config, in their order.

    Args:
        cfg: The config; changed in place. Dicts that are missing on the way to a place are made.
        edits: The changes.

    Returns:
        A line for each that made a difference: its place, and the value before and after.
    """
    lines = []
    for edit in edits:
        *parents, key = edit.place.split('.')
        node: Any = cfg
        for parent in parents:
            if isinstance(node, (list, tuple)):
                node = node[int(parent)]
            else:
                if node.get(parent) is None:
                    node[parent] = {}
                node = node[parent]
        lines += _apply(node, key, edit)
    return lines


def _apply(node: Any, key: str, edit: Edit) -> list[str]:
    """Change one key of a dict, or one item of a list, and return the lines about it."""
    if isinstance(node, list):
        before, node[int(key)] = node[int(key)], edit.value
        return _difference(edit.place, before, edit.value)
    before = node.get(key, REMOVED)
    if edit.value is not REMOVED:
        node[key] = edit.value
        return _difference(edit.place, before, edit.value)
    if before is not REMOVED:
        del node[key]
    return _difference(edit.place, before, REMOVED)


def _difference(place: str, before: Any, after: Any) -> list[str]:
    """Return lines on a value before and after; of lists, on the items that came and went."""
    if repr(before) == repr(after) and (before is REMOVED) == (after is REMOVED):
        return []
    if isinstance(before, (list, tuple)) and isinstance(after, (list, tuple)):
        came = [f'{place}: added {_short(item)}' for item in after if item not in before]
        went = [f'{place}: removed {_short(item)}' for item in before if item not in after]
        if came or went:
            return [*came, *went]
    return [f'{place}: {_short(before)} -> {_short(after)}']


def _short(value: Any, most: int = 160) -> str:
    text = 'not set' if value is REMOVED else repr(value)
    return text if len(text) <= most else f'{text[:most]} ...'
