"""Colours of classes, and results drawn into photographs. Needs Pillow and NumPy only."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from emo_mm.runtime.results import Classification, Detections, Result, Segmentation

Colour = tuple[int, int, int]

_TOP = 5  # classes that are named on a classified photograph
_MASK_SHARE = 0.55  # of the class colour in a segmented photograph
_CLASS_COLOURS: tuple[Colour, ...] = (
    (230, 75, 60),
    (60, 130, 230),
    (70, 175, 90),
    (245, 190, 50),
    (160, 90, 200),
    (40, 190, 200),
    (240, 130, 40),
    (235, 110, 170),
    (150, 190, 40),
    (150, 100, 60),
)


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
    from emo_mm.runtime.results import Detections, Segmentation

    if isinstance(result, Segmentation):
        return _with_mask(pixels, result, colours)
    if isinstance(result, Detections):
        return _with_boxes(pixels, result, classes, colours)
    return _with_names(pixels, result, classes)


def _with_boxes(pixels: np.ndarray, found: Detections, classes: Sequence[str], colours: Sequence[Colour]) -> np.ndarray:
    picture = Image.fromarray(pixels)
    draw, font = ImageDraw.Draw(picture), _font(picture)
    thick = max(1, min(picture.size) // 200)
    # The best last, on top; all frames before the names.
    backwards = range(len(found.labels) - 1, -1, -1)
    for index in backwards:
        left, top, right, bottom = found.boxes[index].tolist()
        corners = (left, top, max(left, right), max(top, bottom))
        draw.rectangle(corners, outline=colours[found.labels[index]], width=thick)
    for index in backwards:
        label = found.labels[index]
        place = (float(found.boxes[index][0]), float(found.boxes[index][1]))
        _tag(draw, place, f'{classes[label]} {found.scores[index]:.2f}', colours[label], font, picture.size)
    return np.asarray(picture)


def _with_names(pixels: np.ndarray, found: Classification, classes: Sequence[str]) -> np.ndarray:
    picture = Image.fromarray(pixels)
    draw, font = ImageDraw.Draw(picture), _font(picture)
    for line, label in enumerate(np.argsort(-found.probabilities)[:_TOP]):
        text = f'{found.probabilities[label]:.3f} {classes[label]}'
        _tag(draw, (0, (line + 1.0) * _height(font)), text, (0, 0, 0), font, picture.size)
    return np.asarray(picture)


def _with_mask(pixels: np.ndarray, found: Segmentation, colours: Sequence[Colour]) -> np.ndarray:
    table = np.array(colours, np.float32)[found.labels]  # H,W -> H,W,3
    return (pixels * (1 - _MASK_SHARE) + table * _MASK_SHARE).round().astype(np.uint8)


def _tag(
    draw: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    colour: Colour,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    size: tuple[int, int],
) -> None:
    """Write a name on a ground of its colour, above a point if there is room."""
    width, height = draw.textlength(text, font=font) + 4, _height(font)
    x, y = max(0.0, min(place[0], size[0] - width)), max(0.0, place[1] - height)
    draw.rectangle((x, y, x + width, y + height), fill=colour)
    draw.text((x + 2, y + 1), text, fill=readable_on(colour), font=font)


def _font(picture: Image.Image) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(max(11, min(picture.size) // 40))


def _height(font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> int:
    return int(font.getbbox('Ag')[3]) + 4


def class_colours(count: int) -> list[Colour]:
    """Colours that tell classes apart: a chosen few first, then hues turned by the golden angle.

    Args:
        count: Number of classes.

    Returns:
        RGB colours, 0 to 255.
    """
    colours = list(_CLASS_COLOURS[:count])
    for index in range(len(colours), count):
        saturation, value = 0.55 + 0.15 * (index % 4), 0.95 - 0.12 * (index % 3)
        red, green, blue = colorsys.hsv_to_rgb(index * 0.618034 % 1, saturation, value)
        colours.append((round(red * 255), round(green * 255), round(blue * 255)))
    return colours


def readable_on(colour: Colour) -> Colour:
    """Black or white, whichever reads better on a colour."""
    red, green, blue = colour
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else (255, 255, 255)
