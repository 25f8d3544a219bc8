"""The colours of classes."""

from __future__ import annotations

import colorsys

Colour = tuple[int, int, int]
"""Red, green and blue, 0 to 255. A tuple, as mmdet's drawing takes a list for several colours."""

_CHOSEN: tuple[Colour, ...] = (
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


def class_colours(count: int) -> list[Colour]:
    """Return colours that tell classes apart: a chosen few first, then hues turned by the golden angle.

    Args:
        count: Number of classes.

    Returns:
        As many colours, no two alike among the first 2000. Those of fewer classes are the first of those of more.
    """
    colours = list(_CHOSEN[:count])
    for index in range(len(colours), count):
        saturation, value = 0.55 + 0.15 * (index % 4), 0.95 - 0.12 * (index % 3)
        red, green, blue = colorsys.hsv_to_rgb(index * 0.618034 % 1, saturation, value)
        colours.append((round(red * 255), round(green * 255), round(blue * 255)))
    return colours


def readable_on(colour: Colour) -> Colour:
    """Return black or white, whichever reads better on a colour."""
    red, green, blue = colour
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else (255, 255, 255)
