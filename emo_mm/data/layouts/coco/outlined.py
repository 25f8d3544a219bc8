"""Which objects of an annotation file have an outline: where masks are trained on, the others are left out.

mmdet stops at an object without one, and takes one of fewer than three points for a crowd without a word. The
evaluation stops at both. So what is left is written into the list that both of them read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from emo_mm.data.layouts.coco.entries import Entry, called, is_number
from emo_mm.data.outlines import corners, encloses_nothing, is_rle, polygons_of, rle_counts
from emo_mm.data.splits import count, shortlist
from emo_mm.tasks import TASKS


@dataclass(frozen=True)
class Outlined:
    """Annotations without those that have no outline.

    Attributes:
        annotations: Those that have one.
        bare: How many others there are.
        notes: What was left out or read otherwise than it is written, in words.
    """

    annotations: list[Entry]
    bare: int = 0
    notes: tuple[str, ...] = ()


def outlined(annotations: Sequence[Entry]) -> Outlined:
    """Return annotations without those that have no outline, with outlines as the toolbox and the evaluation read them.

    Args:
        annotations: Annotations that have all keys needed; labels that cannot be read stay.
    """
    found = [_outlined(entry) for entry in annotations]
    kept = [entry for entry in found if entry is not None]
    bare = [called(entry) for entry, new in zip(annotations, found, strict=True) if new is None]
    changed = [(entry, new) for entry, new in zip(annotations, found, strict=True) if new not in (None, entry)]
    rectangles = sum(not entry.get('segmentation') for entry, _ in changed)
    parts = len(changed) - rectangles
    taken = 'rectangle taken as outline' if rectangles == 1 else 'rectangles taken as outlines'
    alone = f'; there are no others, and a detector such as {TASKS["det"].demo} trains on boxes'
    notes = (
        (
            bare,
            f'{len(bare)} of {count(len(annotations), "object")} left out, as they have no outline; they count as '
            f'background: {shortlist(bare, 3)}',
        ),
        (parts, f'{count(parts, "object")} with parts of fewer than three points, read without these'),
        (rectangles, f'{rectangles} {taken}{alone if rectangles == len(kept) else ""}'),
    )
    return Outlined(kept, len(bare), tuple(note for number, note in notes if number))


def with_outlines(content: dict[str, Any]) -> dict[str, Any]:
    """Return what an annotation file holds without the objects that have no outline."""
    if 'annotations' not in content:
        return content
    return {**content, 'annotations': outlined(content['annotations']).annotations}


def _outlined(entry: Entry) -> Entry | None:
    """Return an annotation with its outline; None where it has none."""
    outline: Any = entry.get('segmentation')
    if 'source_fault' in entry:
        return entry
    if entry.get('filled') and not outline and all(map(is_number, entry['bbox'])):
        left, top, width, height = entry['bbox']
        return {**entry, 'segmentation': [corners(left, top, left + width, top + height)]}
    if is_rle(outline):
        counts = rle_counts(outline)
        return entry if counts is None or any(counts[1::2]) else None  # one that is no RLE is a fault
    polygons = polygons_of(outline)
    if all(map(encloses_nothing, polygons)):
        return None
    return entry if len(polygons) == len(outline) else {**entry, 'segmentation': polygons}
