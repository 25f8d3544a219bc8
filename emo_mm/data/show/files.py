"""What image files are, whatever their labels: size, content, look. Each file is read once."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from emo_mm.data.files.bar import file_bar
from emo_mm.machine import available_cores
from emo_mm.runtime.images import decode_image, orientation, readable_formats, upright

SIDE = 32  # fields to a side that the brightness of an image is kept of
_COLOUR_SIDE = 8  # likewise of its colour
LOOK = SIDE**2 + 2 * _COLOUR_SIDE**2  # numbers of a look

ItemT = TypeVar('ItemT')
ResultT = TypeVar('ResultT')


@dataclass(frozen=True)
class FileFacts:
    """What is known of a file.

    Attributes:
        digest: Hash of its bytes; '' where it cannot be read.
        width: Width in pixels as it stands upright; 0 where it is no image.
        height: Height likewise.
        turned: Whether its EXIF data turn or mirror it.
        look: Its brightness in SIDE x SIDE fields, 0 to 255, then its colour, 0 for grey, (LOOK,); None where it
            cannot be decoded.
    """

    digest: str = ''
    width: int = 0
    height: int = 0
    turned: bool = False
    look: NDArray[np.int16] | None = None


def facts_of(path: Path) -> FileFacts:
    """Return what is known of a file; a damaged one has less of it."""
    try:
        data = path.read_bytes()
    except OSError:
        return FileFacts()
    digest = hashlib.blake2b(data, digest_size=16).hexdigest()
    width = height = 0
    turned = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # of odd EXIF data and large images
            with Image.open(io.BytesIO(data), formats=readable_formats()) as image:
                turn = orientation(image)
                turned, (width, height) = turn > 1, image.size[::-1] if turn >= 5 else image.size
                return FileFacts(digest, width, height, turned, _look(image, data))
    except Exception:  # decoders fail in as many ways as there are bytes; the check of the content tells of it
        return FileFacts(digest, width, height, turned)


def _look(image: Image.Image, data: bytes) -> NDArray[np.int16]:
    if image.mode[0] in 'IF':  # more than 8 bits, which Pillow would cut off
        image = Image.fromarray(decode_image(data, ''))
    else:
        image.draft('YCbCr', (4 * SIDE, 4 * SIDE))  # JPEG files are decoded at a fraction of their size
        image = upright(image)
    if image.mode != 'YCbCr':
        image = image.convert('RGB').convert('YCbCr')
    fields = image.resize((SIDE, SIDE), Image.Resampling.BOX)
    brightness = np.asarray(fields, np.int16)[..., 0]
    colour = np.asarray(fields.resize((_COLOUR_SIDE, _COLOUR_SIDE), Image.Resampling.BOX), np.int16)[..., 1:] - 128
    # a field of colour is as much of the image as several of brightness, and weighs as much as these
    return np.concatenate([brightness.ravel(), (colour * (SIDE // _COLOUR_SIDE)).ravel()])


def in_threads(function: Callable[[ItemT], ResultT], items: Sequence[ItemT], what: str) -> Iterator[ResultT]:
    """Yield what a function returns for each item, in their order, with a progress bar where it takes long.

    Args:
        function: The function, which spends its time in C code that others may run beside.
        items: The items.
        what: What is done, for the bar.
    """
    bar = file_bar(len(items), what)
    pool = ThreadPoolExecutor(available_cores())
    try:
        with bar:
            for result in pool.map(function, items):
                bar.update()
                yield result
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C nobody waits for the rest
