"""File names that annotation files have from another machine, and the files here that are meant."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote


def missing_images(image_dir: Path, names: Iterable[str]) -> list[str]:
    """Return the names that are no files under a folder.

    Each folder is listed once, as 100,000 look-ups are slow on disks.
    """
    listed: dict[str, set[str]] = {}
    absent = []
    for name in names:
        head, slash, base = name.rpartition('/')
        head = head or slash  # '/a.jpg' does not lie in the folder
        if head not in listed:
            listed[head] = _names_in(image_dir / head)
        if base not in listed[head]:
            absent.append(name)
    return absent


def _names_in(folder: Path) -> set[str]:
    try:
        return {entry.name for entry in os.scandir(folder)}
    except (OSError, ValueError):  # a name with NUL is none
        return set()


def meant_images(image_dir: Path, names: Sequence[str]) -> dict[str, str]:
    """Return the files that are meant by names which are not there as they are written.

    A name may have backslashes, ``%20`` for a space, other letter case, or folders of another machine: the longest end
    of it that is one file below the folder is meant. A file that several names lead to is meant by none of them.

    Args:
        image_dir: The folder that the names start from.
        names: File names of the annotation file.

    Returns:
        Name to the path of the file, relative to the folder; only those that were found.
    """
    absent = set(missing_images(image_dir, names))
    if not absent:
        return {}
    places = _places(image_dir)
    found = {name: place for name in absent if (place := _find(name, places)) is not None}
    claims = Counter(found.values())
    claims.update(name for name in names if name not in absent)
    return {name: place for name, place in found.items() if claims[place] == 1}


def spelling_note(meant: dict[str, str]) -> str:
    """Return what is said of names that were read as files of another spelling."""
    written, place = min(meant.items())
    number = f'{len(meant)} file name{"" if len(meant) == 1 else "s"}'
    return f'{number} read as the files that are there: {written} as {place}'


def _places(image_dir: Path) -> dict[str, list[str]]:
    """Return the files below a folder by each end of their path, in one spelling."""
    places: dict[str, list[str]] = {}
    for folder, _, files in os.walk(image_dir):
        below = os.path.relpath(folder, image_dir).replace(os.sep, '/')
        for file in files:
            place = file if below == '.' else f'{below}/{file}'
            for end in _ends(_plain(place)):
                places.setdefault(end, []).append(place)
    return places


def _find(name: str, places: dict[str, list[str]]) -> str | None:
    """Return the only file that a name leads to."""
    for end in _ends(_plain(_posix(name))):
        candidates = places.get(end, [])
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            return _exact(name, candidates)
    return None


def _exact(name: str, candidates: list[str]) -> str | None:
    """Return the only candidate that lies where the name says."""
    plain = _posix(name).lstrip('./')
    exact = [one for one in candidates if one == plain]
    alike = exact or [one for one in candidates if _plain(one) == _plain(plain)]
    return alike[0] if len(alike) == 1 else None


def _posix(name: str) -> str:
    """Return a name with slashes and without escapes; Label Studio writes ``/data/local-files/?d=`` before the path."""
    return unquote(name.replace('\\', '/').replace('?d=', '/'))


def _ends(path: str) -> Iterator[str]:
    """Yield a path, then the same without its first folder, and so on to the name of the file."""
    while path:
        yield path
        path = path.partition('/')[2]


def _plain(path: str) -> str:
    """Return a path in the one spelling in which paths are compared."""
    return unicodedata.normalize('NFC', path).casefold().lstrip('./')
