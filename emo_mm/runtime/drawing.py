"""Results drawn into photographs. Needs Pillow and NumPy only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from emo_mm.runtime.colours import Colour, readable_on
from emo_mm.runtime.fonts import Font, drawable
from emo_mm.runtime.masks import Masks
from emo_mm.runtime.results import Classification, Detections, Result, Segmentation

_TOP = 5  # classes that are named on a classified photograph
_MASK_SHARE = 0.55  # of the class colour in a segmented photograph
_OBJECT_SHARE = 0.45  # of the class colour in the mask of an object: what it is must stay visible
_MARGIN = 2  # pixels around a name


class NamedBox(NamedTuple):
    """A box to draw.

    Attributes:
        corners: Left, top, right and bottom, in pixels of the picture.
        name: What is written at it.
        colour: Its colour, and that of the ground of its name.
    """

    corners: Sequence[float]
    name: str
    colour: Colour


def draw_result(pixels: np.ndarray, result: Result, classes: Sequence[str], colours: Sequence[Colour]) -> np.ndarray:
    """Draw a result into a photograph.

    Args:
        pixels: The photograph, (H, W, 3), uint8, red first.
        result: What was predicted for it.
        classes: Names of the classes.
        colours: A colour for each class.

    Returns:
        The picture, of the same shape.
    """
    if isinstance(result, Segmentation):
        return _with_mask(pixels, result, colours)
    if isinstance(result, Detections):
        return _with_boxes(pixels, result, classes, colours)
    return _with_names(pixels, result, classes)


def draw_boxes(picture: Image.Image, boxes: Sequence[NamedBox], font: Font, thickness: int) -> None:
    """Draw boxes into a picture, each with its name above it where there is room.

    Args:
        picture: The picture; changed in place.
        boxes: The boxes; later ones lie on top.
        font: Font of the names.
        thickness: Width of the frames in pixels.
    """
    draw = ImageDraw.Draw(picture)
    # All frames before the names, so that no frame crosses a name.
    for (left, top, right, bottom), _, colour in boxes:
        draw.rectangle((left, top, max(left, right), max(top, bottom)), outline=colour, width=thickness)
    for (left, top, _, _), name, colour in boxes:
        _write_name(draw, (left, top - _line_height(font)), name, colour, font)


def _with_boxes(pixels: np.ndarray, found: Detections, classes: Sequence[str], colours: Sequence[Colour]) -> np.ndarray:
    thickness = max(1, min(pixels.shape[:2]) // 200)
    if found.masks is not None:
        pixels = with_objects(pixels, found.masks, [colours[label] for label in found.labels], thickness)
        thickness = max(1, thickness // 2)  # the outline tells more than the frame
    picture = Image.fromarray(pixels)
    rows = zip(found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True)
    boxes = [NamedBox(corners, f'{classes[label]} {score:.2f}', colours[label]) for corners, score, label in rows]
    boxes.reverse()  # the best on top
    draw_boxes(picture, boxes, _font(picture), thickness)
    return np.asarray(picture)


def with_objects(pixels: np.ndarray, masks: Masks, colours: Sequence[Colour], thickness: int) -> np.ndarray:
    """Return a photograph with the objects in their colours, which it shows through, and their outlines.

    Args:
        pixels: The photograph, (H, W, 3), uint8, red first.
        masks: The objects.
        colours: A colour for each object.
        thickness: Of the outlines, in pixels.
    """
    seen = np.zeros(pixels.shape[:2], np.uint32)  # number of the object at each pixel, from 1
    lines = np.zeros(pixels.shape[:2], bool)
    # small objects above large ones, which would hide them; of two alike the better one
    for index in np.argsort(masks.areas, kind='stable')[::-1]:
        part, place = masks.parts[index], masks.place(index)
        seen[place][part] = index + 1
        # of a small object nothing would be left to see inside
        lines[place][part] = _outline(part, min(thickness, min(part.shape) // 16))[part]
    table = np.array([(0, 0, 0), *colours], np.uint8)
    drawn = pixels.copy()
    for row, numbers in enumerate(seen):  # mixed colours are needed of one row at a time
        (inside,) = np.nonzero(numbers)
        colour = table[numbers[inside]]  # n,3
        mixed = (pixels[row, inside] * (1 - _OBJECT_SHARE) + colour * _OBJECT_SHARE).round().astype(np.uint8)
        drawn[row, inside] = np.where(lines[row, inside, None], colour, mixed)
    return drawn


def _outline(mask: np.ndarray, thickness: int) -> np.ndarray:
    """Return the pixels of a mask that are up to so many pixels from its outside."""
    window = 2 * thickness + 1
    inner = np.pad(mask, thickness)
    for _ in range(2):  # down the columns, then along the rows
        covered = 1
        while covered < window:  # each step joins two windows: far fewer steps than pixels
            step = min(covered, window - covered)
            inner = inner[:-step] & inner[step:]
            covered += step
        inner = inner.T
    return mask & ~inner


def _with_names(pixels: np.ndarray, found: Classification, classes: Sequence[str]) -> np.ndarray:
    picture = Image.fromarray(pixels)
    draw, font = ImageDraw.Draw(picture), _font(picture)
    for line, label in enumerate(np.argsort(-found.probabilities)[:_TOP]):
        text = f'{found.probabilities[label]:.3f} {classes[label]}'
        _write_name(draw, (0, line * _line_height(font)), text, (0, 0, 0), font)
    return np.asarray(picture)


def _with_mask(pixels: np.ndarray, found: Segmentation, colours: Sequence[Colour]) -> np.ndarray:
    table = np.array(colours, np.float32)[found.labels]  # H,W -> H,W,3
    return (pixels * (1 - _MASK_SHARE) + table * _MASK_SHARE).round().astype(np.uint8)


def _write_name(draw: ImageDraw.ImageDraw, corner: tuple[float, float], name: str, colour: Colour, font: Font) -> None:
    """Write a name on a ground of its colour whose upper left corner is there, or where the picture has room for it."""
    height = _line_height(font)
    name, font = drawable(name, font)
    width = draw.textlength(name, font=font) + 2 * _MARGIN
    x = max(0, min(corner[0], draw.im.size[0] - width))
    y = max(0, min(corner[1], draw.im.size[1] - height))
    draw.rectangle((x, y, x + width, y + height), fill=colour)
    draw.text((x + _MARGIN, y + _MARGIN - font.getbbox('Ag')[1]), name, fill=readable_on(colour), font=font)


def _font(picture: Image.Image) -> Font:
    return ImageFont.load_default(max(11, min(picture.size) // 40))


def _line_height(font: Font) -> int:
    _, top, _, bottom = font.getbbox('Ag')
    return int(bottom - top) + 2 * _MARGIN
