"""The page and the file of numbers of a data set."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from emo_mm.data.folder import WHOLE
from emo_mm.data.show.figures import INPUTS, LIMITS, BoxFigures, Figures, SizeFigures
from emo_mm.data.show.findings import Finding, Pairs, marks_of
from emo_mm.data.show.sheets import Sheet
from emo_mm.data.show.survey import Part, Survey
from emo_mm.data.splits import count
from emo_mm.report.charts import histogram
from emo_mm.report.page import Cell, Figure, Page, Picture, Section, Table
from emo_mm.version import __version__

MADE_BY = 'emo-mm data show'  # by which a folder of this command is known again
_MOST_ROWS = 40  # of a table of pairs; statistics.json has all of them
_BINS = 40


@dataclass(frozen=True)
class Shown:
    """All that the page shows of a data set.

    Attributes:
        survey: What was read.
        figures: Its numbers.
        pairs: Images that are there twice.
        findings: What to know of it.
        sheets: Sheets of the truth, by part, those of parts without a readable image left out.
    """

    survey: Survey
    figures: Figures
    pairs: Sequence[Pairs]
    findings: Sequence[Finding]
    sheets: Mapping[str, Sheet]

    @property
    def labels(self) -> int:
        """Number of boxes, pixels or images that are labelled."""
        return sum(int(of.labels.sum()) for of in self.figures.classes.values())

    @property
    def classes(self) -> list[int]:
        """Labels of the classes; where their names only stand for others, of those that occur."""
        every = range(len(self.survey.classes))
        return [label for label in every if not self.survey.doubt or self.figures.occurs(label)]

    @property
    def leaked(self) -> int:
        """Number of images that have a twin in another part."""
        return len({index for pairs in self.pairs if pairs.leak for index, _ in pairs.pairs})


# --- the page
def page_of(shown: Shown, sheets: Mapping[str, Picture], twins: Picture | None) -> Page:
    """Return the page.

    Args:
        shown: What it shows.
        sheets: The sheets as pictures, by part.
        twins: Images that are there twice, as a picture; None where there are none.
    """
    survey = shown.survey
    sections = (
        _of_findings(shown),
        _of_splits(survey),
        _of_classes(shown),
        *([_of_boxes(survey, shown.figures)] if shown.figures.boxes else []),
        _of_sizes(shown.figures.sizes),
        _of_twins(shown, twins),
        _of_truth(sheets),  # last, as sheets are long
    )
    when = time.strftime('%Y-%m-%d %H:%M')
    return Page(
        f'Data set {survey.root.resolve().name}',
        f'{survey.root}: {survey.layout}. Looked through on {when} by {MADE_BY}, emo_mm {__version__}.',
        _headline(shown),
        sections,
    )


def _of_truth(sheets: Mapping[str, Picture]) -> Section:
    explained = 'Images are spread evenly, and chosen so that every class appears. What is at fault has a red caption.'
    return Section(
        'Truth', (explained if sheets else 'No image can be drawn with its labels.',), pictures=tuple(sheets.values())
    )


def _headline(shown: Shown) -> tuple[Figure, ...]:
    survey = shown.survey
    labels = [] if survey.kind.of_images or survey.kind.in_pixels else [Figure(survey.kind.many, shown.labels)]
    return (
        Figure('images', len(survey.images)),
        *labels,
        Figure('classes', len(shown.classes)),
        Figure('number of splits', sum(part.name != WHOLE for part in survey.parts)),
        Figure('faults', sum(len(part.content.serious) for part in survey.parts)),
        *([Figure('images in two splits', shown.leaked)] if len(survey.parts) > 1 else []),
    )


def _of_findings(shown: Shown) -> Section:
    loud = tuple(finding.line() for finding in shown.findings if finding.loud)
    texts = tuple(finding.line() for finding in shown.findings if not finding.loud)
    return Section('What to know before training', texts if loud or texts else ('Nothing stands out.',), alerts=loud)


def _of_splits(survey: Survey) -> Section:
    rows = [(part.name, len(part.images), int(part.sound.sum()), *_faults(part)) for part in survey.parts]
    faults = [
        (part.name, 'fault' if fault.serious else 'note', fault.kind, fault.file, fault.detail)
        for part in survey.parts
        for fault in part.content.faults
    ]
    faults.sort(key=lambda row: row[1])  # faults before notes
    tables = [Table(('split', 'images', 'sound', 'faults', 'notes'), tuple(rows))]
    if faults:
        head = ('split', '', 'what', 'file', 'detail')
        rows_of_faults = tuple(faults[:_MOST_ROWS])
        tables.append(
            Table(head, rows_of_faults, 'What the check of the files found', _more(len(faults)), words=(0, 1, 2, 3, 4))
        )
    explained = (
        'As a training prints it. Sound are the images that can be trained on as they are; the figures below count '
        'these only.'
    )
    return Section('Splits', (explained,), survey.lines, tuple(tables))


def _more(rows: int) -> str:
    """Return how many rows a table leaves out, in words."""
    return f'{rows - _MOST_ROWS} more are in statistics.json.' if rows > _MOST_ROWS else ''


def _faults(part: Part) -> tuple[int, int]:
    serious = len(part.content.serious)
    return serious, len(part.content.faults) - serious


def _of_classes(shown: Shown) -> Section:
    survey, kind = shown.survey, shown.survey.kind
    columns, several = ['class'], len(survey.parts) > 1
    for part in survey.parts:
        prefix = f'{part.name}: ' if several else ''
        columns += [f'{prefix}images'] if kind.of_images else [f'{prefix}images', f'{prefix}{kind.many}']
    words = (0, len(columns))
    found = shown.classes
    marks = marks_of(survey, shown.figures)
    rows = [_class_row(shown, label) for label in found]
    if any(marks[label] for label in found):
        columns.append('remark')
        rows = [(*row, '; '.join(marks[label])) for row, label in zip(rows, found, strict=True)]
    caption = f'Images that have the class, and its share of the {kind.many}.' if kind.in_pixels else ''
    return Section('Classes', tables=(Table(tuple(columns), tuple(rows), caption=caption, words=words),))


def _class_row(shown: Shown, label: int) -> tuple[Cell, ...]:
    cells: list[Cell] = [shown.survey.classes[label]]
    for of in shown.figures.classes.values():
        cells.append(int(of.images[label]))
        if shown.survey.kind.in_pixels:
            cells.append(percent(float(of.shares[label])))
        elif not shown.survey.kind.of_images:
            cells.append(int(of.labels[label]))
    return tuple(cells)


def _of_boxes(survey: Survey, figures: Figures) -> Section:
    every = figures.all_boxes
    small = tuple((f'{side}x{side}', *(percent(every.below(side, limit)) for limit in LIMITS)) for side in INPUTS)
    tables = (
        Table(
            ('image scaled to', *(f'below {limit} px' for limit in LIMITS)),
            small,
            'Small boxes in the input of a detector',
            'Share of all boxes. The size of a box is the root of its area.',
        ),
        Table(
            ('class', 'median size (px)', 'smallest', 'largest', *(f'median at {side}' for side in INPUTS[:2])),
            tuple(_box_row(every, label, name) for label, name in enumerate(survey.classes) if label in every.labels),
            'Sizes of boxes',
            'At 320: once images are scaled to 320x320.',
        ),
        Table(
            ('boxes per image', 'mean', 'median', 'most', 'images without', 'crowds'),
            tuple((name, *_per_image(of)) for name, of in figures.boxes.items()),
            'Boxes per image',
        ),
    )
    return Section('Boxes', tables=tables, pictures=_box_charts(figures))


def _box_row(every: BoxFigures, label: int, name: str) -> tuple[Cell, ...]:
    own = every.labels == label
    sizes, relative = every.sizes[own], every.relative[own]
    known = relative[np.isfinite(relative)]
    scaled = [float(np.median(known)) * side if known.size else None for side in INPUTS[:2]]
    values = (float(np.median(sizes)), float(sizes.min()), float(sizes.max()), *scaled)
    return (name, *(None if value is None else f'{value:,.0f}' for value in values))


def _per_image(of: BoxFigures) -> tuple[Cell, ...]:
    numbers = of.per_image
    if not numbers.size:
        return (None, None, None, 0, of.crowds)
    return f'{numbers.mean():.1f}', f'{np.median(numbers):g}', int(numbers.max()), of.empty, of.crowds


def _box_charts(figures: Figures) -> tuple[Picture, ...]:
    some = {name: of for name, of in figures.boxes.items() if of.sizes.size}
    if not some:
        return ()
    every = figures.all_boxes
    sizes = np.geomspace(max(float(every.sizes.min()), 1), max(float(every.sizes.max()), 2) * 1.01, _BINS)
    most = int(every.per_image.max())
    step = max(1, -(-most // _BINS))
    numbers = np.arange(0, most + 2 * step, step) - 0.5
    series = (
        ('Sizes of boxes in pixels', {name: of.sizes for name, of in some.items()}, sizes, 'pixels', True),
        (
            'Sizes of boxes relative to the image',
            {name: 100 * of.relative[np.isfinite(of.relative)] for name, of in some.items()},
            np.linspace(0, 100 * float(np.nanmax(every.relative, initial=0.01)) * 1.01, _BINS),
            '% of the side of the image',
            False,
        ),
    )
    charts = [
        Picture(title, histogram(values, edges, label, 'boxes', log), '.svg')
        for title, values, edges, label, log in series
    ]
    per_image = {name: of.per_image for name, of in some.items()}
    charts.append(Picture('Boxes per image', histogram(per_image, numbers, 'boxes', 'images'), '.svg'))
    return tuple(charts)


def _of_sizes(sizes: SizeFigures) -> Section:
    total = sum(sizes.shapes.values())
    if sizes.smallest is None or sizes.largest is None:
        return Section('Sizes of images', ('No image can be read.',))
    shapes = ', '.join(f'{number:,} {shape}' for shape, number in sizes.shapes.items() if number)
    turned = f' {count(sizes.turned, "image")} turned or mirrored by EXIF data, and counted upright.'
    text = (
        f'{count(sizes.different, "size")}; the smallest is {_by(sizes.smallest)}, the largest {_by(sizes.largest)} '
        f'pixels. Images: {shapes}.{turned if sizes.turned else ""}'
    )
    rows = tuple((_by(size), number, percent(number / total)) for size, number in sizes.frequent)
    caption = 'The most frequent sizes.' if sizes.different > len(rows) else ''
    return Section(
        'Sizes of images', (text,), tables=(Table(('width x height', 'images', 'share'), rows, '', caption),)
    )


def _of_twins(shown: Shown, picture: Picture | None) -> Section:
    survey = shown.survey
    if not shown.pairs:
        return Section('Duplicates', ('No image is there twice, neither byte for byte nor by its look.',))
    groups = tuple(
        (
            f'{pairs.part} in {pairs.other}' if pairs.leak else f'within {pairs.part}',
            'the same file' if pairs.identical else 'looks the same',
            pairs.images,
        )
        for pairs in shown.pairs
    )
    images = survey.images
    every = [(pairs, *pair) for pairs in shown.pairs for pair in pairs.pairs]
    rows = tuple(
        (survey.shown(images[index].path), survey.shown(images[twin].path), 'yes' if pairs.identical else 'no')
        for pairs, index, twin in every[:_MOST_ROWS]
    )
    explained = (
        'Images look the same where one may be a copy of the other, scaled, compressed or brightened. Neighbouring '
        'frames of a video do, too.'
    )
    tables = (
        Table(('where', 'how', 'images'), groups, words=(0, 1)),
        Table(('image', 'twin', 'the same bytes'), rows, 'Which images', _more(len(every)), words=(0, 1, 2)),
    )
    return Section('Duplicates', (explained,), tables=tables, pictures=(picture,) if picture else ())


def _by(size: tuple[int, int]) -> str:
    return f'{size[0]}x{size[1]}'


def percent(share: float) -> str:
    """Return a share as it is shown."""
    if not np.isfinite(share):
        return '–'
    return '0%' if not share else '< 0.1%' if share < 0.001 else f'{share:.1%}'


# --- the numbers
def numbers_of(shown: Shown) -> dict[str, Any]:
    """Return the numbers as JSON has them; shares are parts of 1, sizes pixels."""
    survey, figures, images = shown.survey, shown.figures, shown.survey.images
    return {
        'made_by': MADE_BY,
        'version': __version__,
        'data': str(survey.root),
        'layout': survey.layout,
        'images': len(images),
        survey.kind.many if not survey.kind.of_images else 'labels': shown.labels,
        'classes': list(survey.classes),
        'findings': [{'text': one.text, 'loud': one.loud} for one in shown.findings],
        'lines': list(survey.lines),
        'splits': {part.name: _numbers_of_part(shown, part) for part in survey.parts},
        'sizes': {
            'frequent': [{'width': w, 'height': h, 'images': number} for (w, h), number in figures.sizes.frequent],
            'different': figures.sizes.different,
            'smallest': figures.sizes.smallest,
            'largest': figures.sizes.largest,
            **figures.sizes.shapes,
            'turned_by_exif': figures.sizes.turned,
        },
        **({'boxes_below': _below(figures.all_boxes)} if figures.boxes else {}),
        'duplicates': [
            {
                'split': pairs.part,
                'other': pairs.other,
                'identical': pairs.identical,
                'images': [[survey.shown(images[index].path) for index in pair] for pair in pairs.pairs],
            }
            for pairs in shown.pairs
        ],
    }


def _numbers_of_part(shown: Shown, part: Part) -> dict[str, Any]:
    survey, of, boxes = shown.survey, shown.figures.classes[part.name], shown.figures.boxes.get(part.name)
    rows = zip(survey.classes, of.images.tolist(), of.labels.tolist(), of.shares.tolist(), strict=True)
    return {
        'images': len(part.images),
        'sound': int(part.sound.sum()),
        'refusal': part.refusal,
        'faults': [
            {'kind': fault.kind, 'file': fault.file, 'detail': fault.detail, 'serious': fault.serious}
            for fault in part.content.faults
        ],
        'classes': {
            name: {
                'images': images,
                survey.kind.many if not survey.kind.of_images else 'labels': labels,
                'share': share,
            }
            for name, images, labels, share in rows
        },
        **({'ignored_pixels': of.ignored} if survey.kind.in_pixels else {}),
        **(_numbers_of_boxes(boxes) if boxes is not None else {}),
        'on_the_sheet': shown.sheets[part.name].shown if part.name in shown.sheets else 0,
    }


def _numbers_of_boxes(boxes: BoxFigures) -> dict[str, Any]:
    quantiles = (0, 0.1, 0.5, 0.9, 1)
    sizes = np.quantile(boxes.sizes, quantiles).tolist() if boxes.sizes.size else []
    numbers = np.bincount(boxes.per_image).tolist() if boxes.per_image.size else []
    return {
        'box_size': {f'{quantile:g}': round(size, 2) for quantile, size in zip(quantiles, sizes, strict=False)},
        'images_by_number_of_boxes': {number: images for number, images in enumerate(numbers) if images},
        'images_without_box': boxes.empty,
        'crowds': boxes.crowds,
        'below': _below(boxes),
    }


def _below(boxes: BoxFigures) -> dict[str, dict[str, float]]:
    if not np.isfinite(boxes.relative).any():
        return {}
    return {str(side): {str(limit): boxes.below(side, limit) for limit in LIMITS} for side in INPUTS}
