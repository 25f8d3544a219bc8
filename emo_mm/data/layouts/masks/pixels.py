"""The pixels of masks of any kind: class numbers, black and white, or colours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from emo_mm.data.layouts.base import Colour
from emo_mm.errors import UserError
from emo_mm.runtime.images import FORMATS

NO_IMAGE = (OSError, UnidentifiedImageError, SyntaxError, Image.DecompressionBombError)
IGNORED = 255
_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)
_LOSSY = {'JPEG', 'MPO'}


@dataclass(frozen=True)
class Pixels:
    """What a mask file holds.

    Attributes:
        values: Numbers, shape (height, width); or colours, shape (height, width, 3), uint8, red first.
        palette: The colour of each number that occurs, for a file with a palette.
        lossy: Whether the file is of a kind that blurs its pixels.
    """

    values: np.ndarray
    palette: Mapping[int, Colour] = field(default_factory=dict)
    lossy: bool = False

    @property
    def coloured(self) -> bool:
        """Whether pixels have several channels that differ."""
        values = self.values
        return values.ndim == 3 and bool((values != values[..., :1]).any())

    @property
    def numbers(self) -> np.ndarray:
        """The numbers, (height, width): of grey pixels the first channel, of black and white palettes 0 and 255."""
        values = self.values[..., 0] if self.values.ndim == 3 else self.values
        if (
            len(self.palette) <= 2
            and _WHITE in self.palette.values()
            and set(self.palette.values()) <= {_BLACK, _WHITE}
        ):
            table = np.zeros(256, np.uint8)
            table[[number for number, colour in self.palette.items() if colour[0]]] = 255
            return table[values]
        return values

    @property
    def own_colours(self) -> dict[int, Colour]:
        """The palette without the ignored number; empty if it only repeats the numbers as greys."""
        if all(colour == (number,) * 3 for number, colour in self.palette.items()):
            return {}
        return {number: colour for number, colour in self.palette.items() if number != IGNORED}


def read_pixels(path: Path) -> Pixels:
    """Read a mask of any kind; transparency is dropped.

    Raises:
        UserError: If the file is no image.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            lossy = image.format in _LOSSY
            if image.mode == 'P':
                return Pixels(np.asarray(image), _used_colours(image), lossy)
            if len(image.getbands()) == 1:
                return Pixels(_numbers(np.asarray(image)), {}, lossy)
            return Pixels(np.asarray(image.convert('L' if image.mode == 'LA' else 'RGB')), {}, lossy)
    except NO_IMAGE as error:
        raise UserError(f'{path}: cannot be read as an image ({error})') from error


def _numbers(values: np.ndarray) -> np.ndarray:
    """Return values of one channel; bits as 0 and 1, and black and white of 16 bits as that of 8 bits."""
    if values.dtype == bool:
        return values.astype(np.uint8)
    if values.dtype != np.uint8 and values.size and values.max() == 65535 and set(np.unique(values)) <= {0, 65535}:
        return np.where(values > 0, 255, 0).astype(np.uint8)
    return values


def _used_colours(image: Image.Image) -> dict[int, Colour]:
    colours = image.getpalette('RGB') or []
    used = np.unique(np.asarray(image)).tolist()
    found = {number: tuple(colours[3 * number : 3 * number + 3]) for number in used}
    return {number: (c[0], c[1], c[2]) for number, c in found.items() if len(c) == 3}
