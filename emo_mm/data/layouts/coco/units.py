"""Boxes that are written otherwise than COCO format has them: corners, or fractions of the image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from emo_mm.data.layouts.coco.entries import Entry, is_number
from emo_mm.errors import UserError

Sized = tuple[list[float], float, float]  # a bbox, width and height of its image

_FITTING = 0.99  # of the boxes fit, where they are read as what they are


def check_units(path: Path, images: Sequence[Entry], annotations: Sequence[Entry]) -> None:
    """Check that the boxes of a file look like left, top, width and height in pixels.

    One box tells nothing, all of them together do.

    Raises:
        UserError: If they look like something else.
    """
    sizes = {image['id']: (image['width'], image['height']) for image in images}
    boxes: list[Sized] = [
        (box['bbox'], *sizes[box['image_id']])
        for box in annotations
        if box['image_id'] in sizes and _is_box(box['bbox']) and all(map(is_number, sizes[box['image_id']]))
    ]
    if not boxes:
        return
    expected = 'COCO format has [left, top, width, height] in pixels'
    values = [value for bbox, _, _ in boxes for value in bbox]
    if all(0 <= value <= 1 for value in values) and not all(value in (0, 1) for value in values):
        raise UserError(
            f'{path}: its boxes look like fractions of the image, as all values are from 0 to 1 (the first is '
            f'{boxes[0][0]}); {expected}: multiply them by width and height of their image'
        )
    if _are_corners(boxes):
        raise UserError(
            f'{path}: its boxes look like corners [x1, y1, x2, y2] (the first is {boxes[0][0]} of an image of '
            f'{boxes[0][1]}x{boxes[0][2]}); {expected}: write [x1, y1, x2 - x1, y2 - y1]'
        )


def _is_box(bbox: object) -> bool:
    return isinstance(bbox, list) and len(bbox) == 4 and all(map(is_number, bbox))


def _are_corners(boxes: Sequence[Sized]) -> bool:
    """Tell whether most boxes leave their image as they are written, and nearly all fit into it as corners."""
    beyond = sum(
        left + width > across + 1 or top + height > down + 1 for (left, top, width, height), across, down in boxes
    )
    fitting = sum(
        left < right <= across + 1 and top < bottom <= down + 1 for (left, top, right, bottom), across, down in boxes
    )
    return beyond > len(boxes) / 2 and fitting >= _FITTING * len(boxes)
