"""Reading images of any kind as RGB, the way the toolboxes see them."""

from __future__ import annotations

import io
import logging
import warnings
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, features

from emo_mm.errors import UserError

# Orientation in EXIF -> how the pixels must be turned to stand upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112  # tag
# Kinds of files that are opened, whatever they are called. Pillow knows more, and runs Ghostscript for some.
FORMATS = ('JPEG', 'PNG', 'BMP', 'TIFF', 'WEBP', 'GIF', 'PPM')
# Kinds that Pillow opens where it was built with their decoder, or a plugin is installed: kind -> its feature, plugin.
_WITH_A_DECODER = {'JPEG2000': ('jpg_2000', ''), 'AVIF': ('avif', 'pillow_avif'), 'HEIF': ('', 'pillow_heif')}
_SEVERAL = ('TIFF', 'GIF', 'WEBP', 'PNG', 'AVIF')  # kinds that may hold pages or frames beyond the first
MAX_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 0)  # of one image; Pillow refuses more


@lru_cache
def readable_formats() -> tuple[str, ...]:
    """Return the kinds of files that are opened here: those of every Pillow, and what this one decodes too."""
    return (*FORMATS, *(kind for kind, (feature, plugin) in _WITH_A_DECODER.items() if _decodes(feature, plugin)))


def _decodes(feature: str, plugin: str) -> bool:
    """Tell whether Pillow has a feature; if not, add it by a plugin where that is installed."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # older versions know fewer features
        if feature and features.check(feature):
            return True
    if not plugin or find_spec(plugin) is None:
        return False
    module = import_module(plugin)
    register = getattr(module, 'register_heif_opener', None)  # others register themselves
    if register is not None:
        register()
    return True


def read_image(path: str | Path) -> np.ndarray:
    """Return the pixels of an image file, (H, W, 3), uint8, red first.

    Grey, palette, CMYK and other images become RGB, transparency is dropped, 16 bits are cut to the upper 8, and a
    photograph stands upright as its EXIF data say. Of several pages or frames the first is used, with a warning.

    Raises:
        UserError: If the file is missing, empty, damaged, cut off, no image, or has more pixels than Pillow takes for
            an attack (179 million).
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f'{path}: {"is a folder" if path.is_dir() else "there is no such file"}')
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f'{path}: cannot be read: {error.strerror}') from None
    return decode_image(data, str(path))


def decode_image(data: bytes, name: str) -> np.ndarray:
    """Return the pixels of an encoded image, as :func:`read_image` does.

    Args:
        data: The content of a file.
        name: What messages call it.

    Raises:
        UserError: As :func:`read_image`.
    """
    if not data:
        raise UserError(f'{name}: is empty')
    try:
        with Image.open(io.BytesIO(data), formats=readable_formats()) as image:
            _tell_of_others(image, data, name)
            if image.format != 'PNG':
                return _pixels(image)
            image.verify()  # checksums, which Pillow skips where the pixels are
        with Image.open(io.BytesIO(data), formats=readable_formats()) as image:  # what was verified cannot be read
            return _pixels(image)
    except Image.DecompressionBombError as error:
        raise UserError(f'{name}: is refused: {error}') from None
    except Image.UnidentifiedImageError:
        raise UserError(f'{name}: is no image, or damaged from its beginning') from None
    except MemoryError:
        raise UserError(f'{name}: does not fit into memory') from None
    # Decoders fail in as many ways as there are bytes: OSError, SyntaxError, struct.error, ...
    except Exception as error:
        raise UserError(f'{name}: is damaged or of an unknown kind ({error})') from None


def check_pixels(image: np.ndarray) -> np.ndarray:
    """Return an image that a caller holds in memory, after a check.

    Args:
        image: (H, W, 3), red first, or grey (H, W); uint8.

    Raises:
        UserError: If it is anything else.
    """
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)) or image.size == 0:
        raise UserError(
            f'an image in memory is {image.dtype} of shape {image.shape}; it must be uint8 of (height, width, 3), red '
            'first, or (height, width)'
        )
    return image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)  # H,W -> H,W,3


def orientation(image: Image.Image) -> int:
    """Return the orientation in an opened image's EXIF data, 1 to 8; 1 (upright) if they have none or are damaged."""
    try:
        found = int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF data harm no pixel
        return 1
    return found if found in _UPRIGHT else 1


def swaps_sides(image: Image.Image) -> bool:
    """Tell whether an opened image's EXIF data turn it by a quarter, so that width and height change places."""
    return orientation(image) >= 5


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return width and height of an opened image as its EXIF data turn it, from its header."""
    width, height = image.size
    return (height, width) if swaps_sides(image) else (width, height)


def upright(image: Image.Image) -> Image.Image:
    """Return an opened image turned as its EXIF data say."""
    turn = _UPRIGHT.get(orientation(image))
    return image if turn is None else image.transpose(turn)


def _tell_of_others(image: Image.Image, data: bytes, name: str) -> None:
    """Warn of pages or frames beyond the first, which are not used."""
    if image.format not in _SEVERAL:
        return
    try:
        with Image.open(io.BytesIO(data), formats=(image.format,)) as another:  # looking for them moves its position
            several = bool(getattr(another, 'is_animated', False))
    except Exception:  # what is wrong is told when the pixels are read
        return
    if several:
        logging.getLogger(__name__).warning('%s: has several pages or frames; the first is used', name)


def _pixels(image: Image.Image) -> np.ndarray:
    image = upright(image)
    if image.mode.startswith('I'):
        # 16 bits, which Pillow may hold as 32: the upper 8 are kept, as libpng and OpenCV do
        grey = (np.clip(np.asarray(image), 0, 65535) >> 8).astype(np.uint8)
        return check_pixels(grey)
    if image.mode == 'F':
        raise ValueError('floating-point pixels have no known range; convert it to 8 bits')
    if image.mode == 'P':  # with transparency, Pillow warns unless it goes this way
        image = image.convert('RGBA')
    return check_pixels(np.asarray(image.convert('RGB')))
