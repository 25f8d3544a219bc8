"""What a user should know of a data set before training on it, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from emo_mm.data.faults import by_kind, summary
from emo_mm.data.folder import WHOLE
from emo_mm.data.show.figures import FEW_IMAGES, Figures
from emo_mm.data.show.survey import Part, Survey
from emo_mm.data.splits import count, shortlist

_SMALL, _SIDE, _MANY_SMALL = 8, 320, 0.1  # pixels, of boxes in an input of that side; the share that is told
_NARROW = 32  # pixels, as filter_cfg of the recipes says
_MUCH_IGNORED = 0.5  # of the pixels
_NAMES = 6  # of classes or pairs that are named


@dataclass(frozen=True)
class Finding:
    """Something to know.

    Attributes:
        text: What it is, and what can be done.
        loud: Whether a training would stop at it, or its figures would mean little.
    """

    text: str
    loud: bool = False

    def line(self) -> str:
        """Return it as a line to print."""
        return f'WARNING: {self.text}' if self.loud else self.text


@dataclass(frozen=True)
class Pairs:
    """Images of one part that have a twin in another part, or in the same one.

    Attributes:
        part: Name of the part.
        other: Name of the part of the twins.
        identical: Whether they are the same files, or only look the same.
        pairs: Index of each image and of its twin, among all images; within a part each pair is there once.
    """

    part: str
    other: str
    identical: bool
    pairs: tuple[tuple[int, int], ...]

    @property
    def leak(self) -> bool:
        """Whether it is between two parts."""
        return self.part != self.other

    @property
    def images(self) -> int:
        """How many images of the part have a twin."""
        return len({index for pair in self.pairs for index in (pair[:1] if self.leak else pair)})


def pairs_of(survey: Survey) -> list[Pairs]:
    """Return the images that are there twice: those of two parts first, the same files before those that look so."""
    names, part_of = [part.name for part in survey.parts], survey.part_of
    found = [
        Pairs(names[part], names[other], identical, _once(survey.twins.pairs(part, other, part_of, identical)))
        for part in range(len(names))
        for other in range(part + 1)  # val is compared with train, not train with val once more
        for identical in (True, False)
    ]
    return sorted((pairs for pairs in found if pairs.pairs), key=lambda pairs: (not pairs.leak, not pairs.identical))


def _once(pairs: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Return pairs without those that are there the other way round already."""
    return tuple({frozenset(pair): pair for pair in reversed(pairs)}.values())[::-1]


def findings_of(survey: Survey, figures: Figures, pairs: Sequence[Pairs]) -> list[Finding]:
    """Return what to know of a data set, what is loud first."""
    found = [
        *_of_the_check(survey),
        *_of_pairs(survey, pairs),
        *_of_the_splits(survey),
        *_of_classes(survey, figures),
        *_of_boxes(survey, figures),
        *_of_pixels(figures),
    ]
    return sorted(found, key=lambda finding: not finding.loud)


def marks_of(survey: Survey, figures: Figures) -> list[list[str]]:
    """Return what is to be said of each class, in few words."""
    first = figures.classes[survey.parts[0].name]
    marks: list[list[str]] = []
    for label in range(len(survey.classes)):
        absent = [name for name, of in figures.classes.items() if of.images.any() and not of.images[label]]
        words = [f'none in {", ".join(absent)}'] if absent else []
        if 0 < first.images[label] < FEW_IMAGES:
            words.append(f'fewer than {FEW_IMAGES} images')
        if first.images[label] and first.shares[label] < first.few:
            words.append(f'below {_percent(first.few)} of the {survey.kind.many}')
        marks.append(words)
    return marks


def _percent(share: float) -> str:
    return f'{100 * share:.2g}%'


def _of_the_check(survey: Survey) -> Iterator[Finding]:
    if survey.doubt:
        yield Finding(survey.doubt)
    for part in survey.parts:
        if part.refusal:
            yield Finding(f'{part.name}: a training stops at this: {part.refusal}', loud=True)
        if serious := part.content.serious:
            kinds = shortlist(by_kind(serious))
            yield Finding(
                f'{part.name}: {summary(serious)}, at which a training stops, or with --bad-data skip goes on without '
                f'what has one: {kinds}',
                loud=True,
            )
        if not part.sound.any():
            yield Finding(f'{part.name}: no image can be trained on as it is, so it is not in the figures', loud=True)


def _of_pairs(survey: Survey, every: Sequence[Pairs]) -> Iterator[Finding]:
    for pairs in every:
        number, share = pairs.images, pairs.images / len(_part(survey, pairs.part).images)
        some = _some(survey, pairs.pairs)
        images, verb = count(number, 'image'), 'is' if number == 1 else 'are'
        if pairs.leak and pairs.identical:
            yield Finding(
                f'{images} of {pairs.part} ({share:.1%}) {verb} also in {pairs.other}, byte for byte, so {pairs.part} '
                f'measures in part what was learned by heart; keep each in one of the two only: {some}',
                loud=True,
            )
        elif pairs.leak:
            alike = 'looks the same as an image' if number == 1 else 'look the same as images'
            yield Finding(
                f'{images} of {pairs.part} ({share:.1%}) {alike} of {pairs.other}; copies and frames of one scene '
                f'should be in one split only: {some}',
                loud=True,
            )
        elif pairs.identical:
            yield Finding(f'{pairs.part}: {images} ({share:.1%}) have an exact copy: {some}')
        else:
            yield Finding(f'{pairs.part}: {images} ({share:.1%}) look the same as another one: {some}')
    if survey.kind.of_images and (torn := _with_two_classes(survey, every)):
        pairs_of_them = count(len(torn), 'pair')
        yield Finding(
            f'{pairs_of_them} of identical images have two different classes: {_some(survey, torn)}', loud=True
        )


def _with_two_classes(survey: Survey, every: Sequence[Pairs]) -> list[tuple[int, int]]:
    """Return the pairs of identical images that were given two classes."""
    counts = [counts for part in survey.parts for counts in part.counts]
    pairs = {tuple(sorted(pair)) for one in every if one.identical for pair in one.pairs}
    return [(first, second) for first, second in sorted(pairs) if set(counts[first]) != set(counts[second])]


def _some(survey: Survey, pairs: Sequence[tuple[int, int]]) -> str:
    """Return the first pairs by their files; there may be very many."""
    named = [' = '.join(survey.shown(survey.images[index].path) for index in pair) for pair in pairs[:3]]
    return shortlist([*named, *([None] * (len(pairs) - 3))], 3)


def _of_the_splits(survey: Survey) -> Iterator[Finding]:
    names = [part.name for part in survey.parts]
    if names == [WHOLE]:
        yield Finding('there are no splits: --split 0.8/0.1/0.1 makes train, val and test, here and in a training')
    elif 'train' in names and 'val' not in names:
        yield Finding(
            'there is no val split: --split 0.8/0.2 cuts it from train; `emo-mm train --no-val` trains without it'
        )
    if survey.others:
        yield Finding(f'not read, as it is no split that is found by itself: {shortlist(survey.others)}')


def _of_classes(survey: Survey, figures: Figures) -> Iterator[Finding]:
    learned = survey.parts[0].name
    for name, of in figures.classes.items():
        absent = [survey.classes[label] for label in np.flatnonzero(of.images == 0)]
        if absent and of.images.any() and not survey.doubt:
            why = 'cannot be learned' if name == learned else f'{name} does not measure'
            yield Finding(f'{name}: no {survey.kind.one} of {shortlist(absent, _NAMES)}, which {why}', name == learned)
    first = figures.classes[learned]
    few = [survey.classes[label] for label in np.flatnonzero((first.images > 0) & (first.images < FEW_IMAGES))]
    rare = [survey.classes[label] for label in np.flatnonzero((first.images > 0) & (first.shares < first.few))]
    if few:
        yield Finding(f'{learned}: fewer than {FEW_IMAGES} images with {shortlist(few, _NAMES)}')
    if rare:
        less = f'below {_percent(first.few)} of the {survey.kind.many} each'
        yield Finding(f'{learned}: {less}: {shortlist(rare, _NAMES)}')


def _of_boxes(survey: Survey, figures: Figures) -> Iterator[Finding]:
    if not figures.boxes:
        return
    learned = survey.parts[0].name
    empty, total = figures.boxes[learned].empty, len(figures.boxes[learned].per_image)
    if empty:
        kept = 'a training leaves them out, and --keep-empty keeps them'
        yield Finding(f'{learned}: {empty} of {count(total, "image")} without {survey.kind.a_label}: {kept}')
    narrow = [one for one in survey.parts[0].facts if one.width and min(one.width, one.height) < _NARROW]
    if narrow:
        yield Finding(
            f'{learned}: {len(narrow)} of {count(total, "image")} less than {_NARROW} pixels wide or high, which the '
            'published detectors leave out of a training'
        )
    below = figures.all_boxes.below(_SIDE, _SMALL)
    if below >= _MANY_SMALL:
        yield Finding(
            f'{below:.0%} of the boxes are smaller than {_SMALL} pixels once images are scaled to {_SIDE}x{_SIDE}, and '
            'will hardly be found; --input gives a larger one'
        )


def _of_pixels(figures: Figures) -> Iterator[Finding]:
    for name, of in figures.classes.items():
        share = of.ignored / max(of.ignored + int(of.labels.sum()), 1)
        if share > _MUCH_IGNORED:
            yield Finding(f'{name}: {share:.0%} of the pixels are ignored')


def _part(survey: Survey, name: str) -> Part:
    return next(part for part in survey.parts if part.name == name)
