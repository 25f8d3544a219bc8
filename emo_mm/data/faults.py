"""Faults of single images and annotations: how they are counted, shown and listed."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from emo_mm.data.splits import count, shortlist


@dataclass(frozen=True)
class Fault:
    """Something wrong with one image or one annotation.

    Attributes:
        split: Where it was found: ``train``, ``val`` or ``test``.
        kind: What is wrong, in the words by which faults are counted.
        file: The image, mask or annotation file that has it.
        detail: What exactly: sizes, numbers, the decoder's words.
        drop: What a training can leave out instead: the name of a list (``images``, ``annotations``) and the index in
            it. None for a note: what the toolbox copes with by itself.
    """

    split: str
    kind: str
    file: str
    detail: str
    drop: tuple[str, int] | None

    @property
    def serious(self) -> bool:
        """Whether it is a fault, for which there is a policy, or a note."""
        return self.drop is not None


@dataclass(frozen=True)
class Content:
    """What one data set of a split holds, checked.

    Attributes:
        faults: What is wrong with it.
        items: For each list that faults point into, how many entries it has: ``images``, ``annotations``.
        names: The line of each image in a list such as mmseg and mmpretrain read; none for detection.
    """

    faults: list[Fault]
    items: dict[str, int]
    names: tuple[str, ...] = ()

    @property
    def serious(self) -> list[Fault]:
        """The faults for which there is a policy, without the notes."""
        return [fault for fault in self.faults if fault.serious]

    def drops(self) -> dict[str, set[int]]:
        """Return the entries that a training can leave out, by the list that they are in."""
        drops: dict[str, set[int]] = {name: set() for name in self.items}
        for fault in self.faults:
            if fault.drop is not None:
                drops[fault.drop[0]].add(fault.drop[1])
        return drops


def table(faults: Iterable[Fault], most: int = 3) -> list[str]:
    """Return the lines of a table: faults by split and kind with their number and the first files, serious ones first.

    Args:
        faults: The faults.
        most: Files shown of each kind; the list in the work directory has all.
    """
    groups: dict[tuple[bool, str, str], list[str]] = {}
    for fault in faults:
        shown = f'{fault.file} ({fault.detail})' if fault.detail else fault.file
        groups.setdefault((not fault.serious, fault.split, fault.kind), []).append(shown)
    rows = [
        (split, f'note: {kind}' if is_note else kind, str(len(files)), shortlist(files, most))
        for (is_note, split, kind), files in sorted(groups.items())
    ]
    header = ('split', 'fault', 'number', 'first files')
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(3)]
    return [
        '  '.join([row[0].ljust(widths[0]), row[1].ljust(widths[1]), row[2].rjust(widths[2]), row[3]])
        for row in [header, *rows]
    ]


def by_kind(faults: Iterable[Fault], most: int = 3) -> list[str]:
    """Return the kinds of faults with the first files of each, in words: ``empty file (a.jpg, b.jpg)``."""
    files: dict[str, list[str]] = {}
    for fault in faults:
        files.setdefault(fault.kind, []).append(fault.file)
    return [f'{kind} ({shortlist(of, most)})' for kind, of in files.items()]


def write_list(faults: Sequence[Fault], path: Path) -> None:
    """Write all faults as CSV, one a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file)
        writer.writerow(['split', 'kind', 'fault', 'file', 'detail'])
        for fault in faults:
            writer.writerow([fault.split, 'fault' if fault.serious else 'note', fault.kind, fault.file, fault.detail])


def summary(faults: Sequence[Fault]) -> str:
    """Return how many faults there are, in words."""
    serious = sum(fault.serious for fault in faults)
    notes = len(faults) - serious
    text = count(serious, 'fault') if serious else 'no fault'
    return f'{text}, {count(notes, "note")}' if notes else text
