"""One data set cut into splits: the same ones each time, each with its share of every class, related images together.

Frames of one video, or copies of one image as Roboflow makes them, are nearly the same picture. With some of them in
train and others in val the validation would tell what was learnt by heart. They are known by their names.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from emo_mm.data.splits import SPLITS, count, shortlist
from emo_mm.errors import UserError

SEED = 0  # of the split, where none is given

_ROBOFLOW = re.compile(r'(_(jpe?g|png|bmp|webp))?\.rf\.[0-9A-Za-z]+$')
_NUMBER = re.compile(r'^(.*?)[\W_]*\d+$')
_LAST_PART = re.compile(r'^(.+)[\W_]+[^\W_]+$')


@dataclass(frozen=True)
class Item:
    """What goes into one split or another: an image with its labels.

    Attributes:
        name: Its name with the folders above it, from which its group follows.
        labels: Its classes; none where they do not count.
    """

    name: str
    labels: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Parts:
    """The splits of a data set.

    Attributes:
        kept: Indices of the items of each split, ascending.
        how: How the groups were made, in words.
    """

    kept: Mapping[str, list[int]]
    how: str


def parse_ratios(text: str) -> dict[str, float]:
    """Return the share of each split, as ``0.8/0.2`` or ``0.8/0.1/0.1`` says: train, val, and test if there is one.

    Raises:
        UserError: If it says something else.
    """
    try:
        shares = [float(share) for share in text.split('/')]
    except ValueError:
        shares = []
    total = sum(shares)
    if (
        len(shares) not in (2, 3)
        or not all(share > 0 for share in shares)
        or min(abs(total - 1), abs(total - 100)) > 1e-6
    ):
        raise UserError(
            f'--split {text}: it must be the shares of train and val, or of train, val and test, which add up to 1: '
            '0.8/0.2 or 0.8/0.1/0.1'
        )
    return {split: share / total for split, share in zip(SPLITS, shares, strict=False)}


def divide(items: Sequence[Item], ratios: Mapping[str, float], seed: int = SEED, grouped: bool = True) -> Parts:
    """Return which items go into which split.

    Each item counts for the rarest of its classes, and each class is shared out by the ratios, rounded up or down;
    train gets at least one item of each. Groups stay together where that leaves every split its share, more or less.

    Args:
        items: What is to be divided.
        ratios: Share of each split; they add up to 1.
        seed: Of the order in which items are taken.
        grouped: Whether images of like names stay together; copies of one image always do.

    Raises:
        UserError: If a split would be empty, or train would lack a class.
    """
    strata = _strata(items)
    quotas = _quotas(Counter(strata), ratios)
    copies = [_original(item.name) for item in items]
    prefixes = _prefix_groups(items) if grouped else copies
    kept, how = _assign(prefixes, strata, quotas, seed), _words(prefixes, 'whose names differ in their end only')
    if prefixes != copies and not _near(kept, strata, quotas):
        why = '; groups of like names would leave no such shares'
        kept, how = _assign(copies, strata, quotas, seed), _words(copies, 'copied from one by Roboflow') + why
    empty = [split for split in ratios if not kept[split]]
    if empty:
        raise UserError(
            f'--split: {count(len(items), "image")} are too few, {shortlist(empty)} would be empty; give that split a '
            'larger share, or train without val by --no-val'
        )
    every = frozenset().union(*(item.labels for item in items))
    absent = sorted(every - frozenset().union(*(items[index].labels for index in kept['train'])))
    if absent:
        raise UserError(f'--split: train would have no image of {shortlist(absent)}; give it a larger share')
    return Parts(kept, how)


@dataclass
class _Room:
    """What is left to fill of the splits: by class, how many items each may still take."""

    left: dict[str, dict[str, float]] = field(default_factory=dict)

    def best(self, holds: Counter[str], sizes: Mapping[str, int]) -> str:
        """Return the split that lacks most of what a group holds."""
        return max(
            self.left,
            key=lambda split: sum(number * self.left[split][name] / sizes[name] for name, number in holds.items()),
        )

    def take(self, split: str, holds: Counter[str]) -> None:
        """Fill a split with a group."""
        for name, number in holds.items():
            self.left[split][name] -= number


def _strata(items: Sequence[Item]) -> list[str]:
    """Return the class that each item counts for, the rarest of its own; '' where it has none."""
    seen = Counter(label for item in items for label in item.labels)
    return [min(item.labels, key=lambda label: (seen[label], label), default='') for item in items]


def _quotas(sizes: Mapping[str, int], ratios: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Return how many items of each class each split gets: its share, rounded so that the sums are near theirs too."""
    quotas: dict[str, dict[str, float]] = {split: {} for split in ratios}
    owed = dict.fromkeys(ratios, 0.0)  # by rounding of the classes before
    for name in sorted(sizes, key=lambda name: (sizes[name], name)):
        shares = {split: sizes[name] * ratio for split, ratio in ratios.items()}
        whole = {split: int(share + 1e-9) for split, share in shares.items()}
        rest = {split: shares[split] - whole[split] for split in ratios}
        rounded_up = sorted(ratios, key=lambda split: -(rest[split] + owed[split]))
        rounded_up = [split for split in rounded_up if rest[split] > 1e-6]
        if not whole['train'] and 'train' in rounded_up:
            rounded_up = ['train', *(split for split in rounded_up if split != 'train')]
        for split in rounded_up[: sizes[name] - sum(whole.values())]:
            whole[split] += 1
        for split in ratios:
            owed[split] += shares[split] - whole[split]
            quotas[split][name] = whole[split]
    return quotas


def _assign(
    groups: Sequence[str], strata: Sequence[str], quotas: Mapping[str, Mapping[str, float]], seed: int
) -> dict[str, list[int]]:
    """Return the items of each split: group after group, the largest first, goes where most is lacking."""
    members: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    order = sorted(members, key=lambda group: (-len(members[group]), _random(group, seed), group))
    room = _Room({split: dict(quota) for split, quota in quotas.items()})
    sizes = Counter(strata)
    kept: dict[str, list[int]] = {split: [] for split in quotas}
    for group in order:
        holds = Counter(strata[index] for index in members[group])
        split = room.best(holds, sizes)
        room.take(split, holds)
        kept[split] += members[group]
    return {split: sorted(indices) for split, indices in kept.items()}


def _near(kept: Mapping[str, list[int]], strata: Sequence[str], quotas: Mapping[str, Mapping[str, float]]) -> bool:
    """Tell whether every split has half to twice its number of items, and some of each class that it should have."""
    for split, quota in quotas.items():
        number, expected = len(kept[split]), sum(quota.values())
        present = {strata[index] for index in kept[split]}
        if not expected / 2 <= number <= 2 * expected or {name for name, share in quota.items() if share} - present:
            return False
    return True


def _words(groups: Sequence[str], alike: str) -> str:
    """Return how many groups of more than one image there are."""
    several = [number for number in Counter(groups).values() if number > 1]
    if not several:
        return 'each image by itself'
    return f'{count(len(several), "group")} of {count(sum(several), "image")} {alike} kept together'


def _prefix_groups(items: Sequence[Item]) -> list[str]:
    """Return the group of each item by its name; a beginning that all names of a folder share makes no group."""
    groups = [_prefix(_original(item.name)) for item in items]
    folders = [str(PurePosixPath(item.name).parent) for item in items]
    beginnings: dict[str, set[str]] = {}
    for folder, group in zip(folders, groups, strict=True):
        beginnings.setdefault(folder, set()).add(group)
    return [
        group if len(beginnings[folder]) > 1 else _original(item.name)
        for item, folder, group in zip(items, folders, groups, strict=True)
    ]


def _original(name: str) -> str:
    """Return the name of the image of which Roboflow made a copy; of other files the name itself."""
    path = PurePosixPath(name)
    stem = path.stem
    plain = _ROBOFLOW.sub('', stem)
    return name if plain == stem else str(path.parent / plain)


def _prefix(name: str) -> str:
    """Return a name without its last number, or without what follows its last separator."""
    path = PurePosixPath(name)
    found = _NUMBER.match(path.stem) or _LAST_PART.match(path.stem)
    return str(path.parent / found[1]) if found and found[1] else name


def _random(group: str, seed: int) -> bytes:
    """Return what orders the groups: the same on every machine, and for a group whatever others there are."""
    return hashlib.sha256(f'{seed}:{group}'.encode(errors='surrogateescape')).digest()
