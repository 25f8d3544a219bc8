"""The classes of masks: from files that lie there, from the masks themselves, and without those that are ignored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from emo_mm.data.layouts.base import Names, NeedsConfigError
from emo_mm.data.layouts.masks.convert import INDEX_MASKS, Conversion
from emo_mm.data.layouts.masks.decide import (
    BACKGROUND,
    Sample,
    conversion_of,
    holds_two,
    read_sample,
    take_sample,
    two_names,
)
from emo_mm.data.layouts.masks.labels import palette_classes, spread
from emo_mm.data.layouts.masks.pairs import MASK_SUFFIXES, MaskPairs
from emo_mm.data.layouts.masks.pixels import IGNORED
from emo_mm.data.layouts.masks.table import (
    TABLE_FILES,
    ClassTable,
    find_class_file,
    join_tables,
    read_table,
    require_colours,
)
from emo_mm.data.splits import DataRequest, count, files_under, inside, locate, shortlist
from emo_mm.errors import UserError
from emo_mm.runtime.colours import class_colours

_FEW_LABELS = 0.5  # of a config's classes: masks whose labels end before are hardly those that it is for


@dataclass(frozen=True)
class MaskNames(Names):
    """The classes of a data set of masks.

    Attributes:
        how: How the masks become index masks.
        notes: What is done to the masks, in words.
    """

    how: Conversion = INDEX_MASKS
    notes: tuple[str, ...] = ()


def agreed_names(root: Path, parts: Mapping[str, MaskPairs], request: DataRequest, tolerant: bool) -> MaskNames:
    """Return the classes of masks, and how these become index masks.

    Args:
        root: The folder of the data set.
        parts: Images and masks by split.
        request: What the user gave.
        tolerant: Whether masks that cannot be read are left to the check of the content.

    Raises:
        NeedsConfigError: If nothing tells the classes.
        UserError: If the masks cannot become index masks, or what was given does not fit them.
    """
    table, source = _table(root, request)
    sample = take_sample(parts, tolerant)
    how, note = conversion_of(sample, table, bool(request.binary))
    if how.kind in ('binary', 'threshold') or ((table is None or len(table.names) == 1) and _two_labels(sample)):
        names = _two(table, source)
    elif table is not None:
        colours = table.colours or tuple(class_colours(len(table.names)))
        names = MaskNames(table.names, colours, source)
    else:
        names = _of_the_masks(root, next(iter(parts.values())), how, tolerant)
    names = replace(names, how=how, notes=(f'masks are {note}',) if note else ())
    return without_ignored(names, request)


def other_classes(mask_dir: Path, classes: int, palette: Sequence[tuple[int, ...]]) -> str | None:
    """Tell whether masks speak of other classes than a config has, which are kept as nothing names others.

    Args:
        mask_dir: Folder of the masks.
        classes: How many classes the config has.
        palette: Their colours; empty if it has none.

    Returns:
        None if their palettes do; a warning if they hold few of the classes; else nothing.
    """
    sample = read_sample([mask_dir / name for name in spread(files_under(mask_dir, MASK_SUFFIXES))], tolerant=True)
    seen = sorted(set(sample.counts()) - {IGNORED})
    if not seen or seen[-1] >= _FEW_LABELS * classes or sample.channels:
        return ''
    if sample.palettes and not sample.palettes <= set(enumerate(palette)):
        return None
    return (
        f'{mask_dir}: {count(len(sample.masks), "mask")} looked into hold only the labels {shortlist(seen)} of the '
        f"config's {classes} classes; if these are other classes, name them with --classes FILE"
    )


def without_ignored(names: MaskNames, request: DataRequest) -> MaskNames:
    """Return classes without those to ignore; the labels after them move down.

    Raises:
        UserError: If what is to be ignored is no label and no class, or no class is left.
    """
    shift = bool(request.reduce_zero)
    of_label = {label + shift: name for label, name in enumerate(names.classes)}
    ignored = {_label(text, of_label) for text in request.ignore or ()} | ({0} if shift else set())
    if not ignored:
        return names
    kept = [label for label in of_label if label not in ignored]
    if not kept:
        raise UserError('--ignore: no class is left')
    moves = dict.fromkeys(ignored, IGNORED) | {label: index for index, label in enumerate(kept)}
    labels = tuple(sorted((label, other) for label, other in moves.items() if label != other))
    palette = [colour for label, colour in zip(of_label, names.palette, strict=True) if label in kept]
    return replace(
        names,
        classes=tuple(of_label[label] for label in kept),
        palette=palette,
        how=replace(names.how, labels=labels),
        notes=(*names.notes, f'{_in_words(sorted(ignored), of_label)} ignored'),
    )


def _in_words(labels: Sequence[int], of_label: Mapping[int, str]) -> str:
    words = [f'{label} ({of_label[label]})' if label in of_label else str(label) for label in labels]
    return f'label {words[0]} is' if len(words) == 1 else f'labels {shortlist(words)} are'


def _label(text: str, of_label: Mapping[int, str]) -> int:
    labels = {name: label for label, name in of_label.items()}
    if text in labels:
        return labels[text]
    if text.isdecimal() and int(text) <= IGNORED:
        return int(text)
    raise UserError(f'--ignore {text}: is neither a label (0 to 255) nor a class; classes are {shortlist(labels)}')


def _table(root: Path, request: DataRequest) -> tuple[ClassTable | None, str]:
    """Return the classes that files tell, and which files."""
    given = locate(root, request.classes, '--classes') if request.classes else None
    names = given or (None if request.palette else find_class_file(root))
    if request.palette:
        colours = require_colours(read_table(locate(root, request.palette, '--palette')))
        return join_tables(root, read_table(names) if names else None, colours)
    path = find_class_file(root, TABLE_FILES)
    table = read_table(path) if path else None
    return join_tables(root, read_table(names) if names else None, table if table and table.colours else None)


def _two_labels(sample: Sample) -> bool:
    return holds_two(sample) and not sample.palettes


def _two(table: ClassTable | None, source: str) -> MaskNames:
    names = two_names(table.names if table else None)
    if table is None:
        source = 'the masks, which hold two labels and no names'
    elif len(table.names) == 1:
        source = f'{source} ({BACKGROUND} is added as the first class)'
    colours = table.colours if table and len(table.colours) == len(names) else class_colours(len(names))
    return MaskNames(names, colours, source)


def _of_the_masks(root: Path, first: MaskPairs, how: Conversion, tolerant: bool) -> MaskNames:
    found = palette_classes(first, tolerant) if how.kind == 'labels' else None
    if found is None:
        raise NeedsConfigError(
            f'{first.mask_dir}: the class names are not known: there is no CLASSES.txt, the masks have no palette',
            'give a text file with --classes FILE, one name per line in the order of the labels',
            Names(tuple(f'label {label}' for label in range(IGNORED))),
        )
    return MaskNames(*found, source=f'the palette of {inside(root, first.mask_dir)}')
