"""The types of the entries of COCO annotation files.

Loading takes much that is not COCO format, and stops or goes wrong later: at the evaluation after the first epoch, as
with numbers written as texts, or without a word, as with ``"iscrowd": "0"``, which counts as a crowd.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from emo_mm.errors import UserError

# What is called a number of an entry, where JSON has more kinds of values than COCO format.
_NUMBERS = {'images': ('id',), 'categories': ('id',), 'annotations': ('id', 'image_id', 'category_id')}
_TEXTS = {'images': ('file_name',), 'categories': ('name',), 'annotations': ()}
_FLAGS = {'images': (), 'categories': (), 'annotations': ('iscrowd', 'ignore')}
_LARGEST = 2**53  # beyond, the evaluation, which computes in float64, takes different numbers for one


def check_types(path: Path, what: str, entries: list[dict[str, Any]]) -> None:
    """Checks numbers, names and flags of the entries of a list.

    Args:
        path: The file, for messages.
        what: ``images``, ``categories`` or ``annotations``.
        entries: The entries, which have all keys that are needed.

    Raises:
        UserError: One has a value of another type; the message names it.
    """
    for index, entry in enumerate(entries):
        for keys, fits, wanted in (
            (_NUMBERS[what], _is_whole, 'a whole number'),
            (_TEXTS[what], _is_name, 'a text that is not empty'),
            (_FLAGS[what], _is_flag, '0 or 1'),
        ):
            for key in keys:
                if key in entry and not fits(entry[key]):
                    value = repr(entry[key])[:80]
                    raise UserError(f'{path}: {what}[{index}] has {key} {value}; it must be {wanted}')


def _is_whole(value: Any) -> bool:
    if isinstance(value, float):
        return value.is_integer() and abs(value) < _LARGEST
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST


def _is_name(value: Any) -> bool:
    # half a character, as JSON may hold by its escapes, and NUL are in no name of a file
    return (
        isinstance(value, str)
        and value != ''
        and '\0' not in value
        and not any('\ud800' <= c <= '\udfff' for c in value)
    )


def _is_flag(value: Any) -> bool:
    return isinstance(value, (bool, int, float)) and value in (0, 1)
