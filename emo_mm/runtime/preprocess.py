"""From photographs to the input of the graph, as :class:`~emo_mm.runtime.metadata.Preprocessing` says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from emo_mm.errors import UserError
from emo_mm.runtime.metadata import MAX_PIXELS, MAX_SIDE, InputSpec, Metadata, Preprocessing

cv2: Any
try:
    import cv2
except ImportError:  # images can be resized without, more slowly
    cv2 = None

_CV2_MODES = {'nearest': 0, 'bilinear': 1, 'bicubic': 2, 'area': 3, 'lanczos': 4}  # cv2.INTER_*
_PILLOW_MODES = {
    'nearest': Image.Resampling.NEAREST,
    'bilinear': Image.Resampling.BILINEAR,
    'bicubic': Image.Resampling.BICUBIC,
    'area': Image.Resampling.BOX,
    'lanczos': Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class Prepared:
    """An image at the size of the network.

    Attributes:
        pixels: Resized and cropped, (h, w, 3), uint8, red first.
        original: Width and height of the photograph.
    """

    pixels: np.ndarray
    original: tuple[int, int]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]


def prepare(image: np.ndarray, how: Preprocessing) -> Prepared:
    """Resize and crop a photograph.

    Args:
        image: (H, W, 3), uint8, red first.
        how: The preprocessing.

    Raises:
        UserError: If the result would be empty or out of reason, as that of a photograph 1 pixel high may.
    """
    height, width = image.shape[:2]
    size = resized_size(width, height, how)
    if min(size) < 1 or max(size) > MAX_SIDE:
        raise UserError(f'an image of {width}x{height} would be resized to {size[0]}x{size[1]}')
    pixels = resize_image(image, size, how.backend, how.interpolation)
    if how.crop is not None:
        left, top = (max(0, round((have - want) / 2)) for have, want in zip(size, how.crop, strict=True))
        pixels = pixels[top : top + how.crop[1], left : left + how.crop[0]]
    return Prepared(pixels, (width, height))


def resized_size(width: int, height: int, how: Preprocessing) -> tuple[int, int]:
    """Return width and height of an image after resizing, rounded as the toolboxes round."""
    if how.resize == 'none':
        return width, height
    if how.resize == 'stretch':
        return how.scale
    if how.resize == 'short_edge':
        edge = how.scale[0]
        return (edge, int(edge * height / width)) if width < height else (int(edge * width / height), edge)
    if how.resize == 'fit':
        factor = min(how.scale[0] / width, how.scale[1] / height)
    else:
        factor = min(max(how.scale) / max(width, height), min(how.scale) / min(width, height))
    return int(width * factor + 0.5), int(height * factor + 0.5)


def resize_image(image: np.ndarray, size: tuple[int, int], backend: str, interpolation: str) -> np.ndarray:
    """Resize (H, W, 3) to a width and height.

    Raises:
        UserError: If this needs OpenCV, which is missing.
    """
    if (image.shape[1], image.shape[0]) == size:
        return image
    if backend == 'pillow':
        return np.asarray(Image.fromarray(image).resize(size, _PILLOW_MODES[interpolation]))
    if cv2 is not None:
        return cv2.resize(image, size, interpolation=_CV2_MODES[interpolation])
    if interpolation != 'bilinear':
        raise UserError(f'{interpolation} resizing as in OpenCV needs it: pip install opencv-python-headless')
    return _resize_as_cv2(image, size)


def _resize_as_cv2(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize as OpenCV does in bilinear mode, within one level: it rounds its weights to 11 bits."""
    low, high, weight = _neighbours(image.shape[0], size[1])
    rows = image[low].astype(np.float32)
    rows += (image[high] - rows) * weight[:, None, None]
    low, high, weight = _neighbours(image.shape[1], size[0])
    out = rows[:, low]
    out += (rows[:, high] - out) * weight[:, None]
    return (out + 0.5).astype(np.uint8)


def _neighbours(old: int, new: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return, for each new pixel, the two old ones around its centre and the weight of the second."""
    place = (np.arange(new) + 0.5) * (old / new) - 0.5
    low = np.floor(place).astype(np.intp)
    weight = (place - low).astype(np.float32)
    return low.clip(0, old - 1), (low + 1).clip(0, old - 1), weight


def input_size(prepared: Prepared, metadata: Metadata) -> tuple[int, int]:
    """Return width and height with the padding.

    Raises:
        UserError: If the graph does not take this size.
    """
    how, spec = metadata.preprocessing, metadata.input
    divisor = how.pad_divisor
    width, height = (-(-side // divisor) * divisor for side in prepared.size)
    if how.pad_size is not None:
        width, height = max(width, how.pad_size[0]), max(height, how.pad_size[1])
    for name, have, want in (('width', width, spec.width), ('height', height, spec.height)):
        if want is not None and have != want:
            raise UserError(f'{metadata.model}: the preprocessing gives {name} {have}, the graph takes {want} only')
    return width, height


def make_batch(images: Sequence[Prepared], size: tuple[int, int], metadata: Metadata) -> np.ndarray:
    """Put images into one input: normalise where the graph does not, and pad right and below.

    Args:
        images: Images whose :func:`input_size` is ``size``.
        size: Width and height.
        metadata: The description.

    Returns:
        (N, 3, height, width) or (N, height, width, 3), as the graph takes it. N is its fixed batch, if it has one: the
        rest is padding.
    """
    spec, how = metadata.input, metadata.preprocessing
    count = spec.batch or len(images)
    if count * size[0] * size[1] > MAX_PIXELS:
        raise UserError(f'{count} images of {size[0]}x{size[1]} are too many at once: use a smaller batch')
    mean, std, padding = _channel_values(spec, how)
    # filled with one value per channel; N,3,H,W seen as N,H,W,3 below
    batch = np.empty((count, 3, size[1], size[0]), spec.dtype)
    pixels_last = batch.transpose(0, 2, 3, 1)
    if spec.layout == 'NHWC':
        batch = pixels_last = np.empty((count, size[1], size[0], 3), spec.dtype)
    for place, image in zip(pixels_last, images, strict=False):
        width, height = image.size
        inside = place[:height, :width]
        inside[:] = image.pixels
        if not spec.normalized_inside:
            for channel in range(3):  # contiguous in NCHW
                inside[..., channel] -= mean[channel]
                inside[..., channel] /= std[channel]
        place[height:], place[:height, width:] = padding, padding
    pixels_last[len(images) :] = padding
    return batch


def _channel_values(spec: InputSpec, how: Preprocessing) -> tuple[Any, Any, Any]:
    """Return mean, standard deviation and padding of the channels, (3,) each, in the values of the input."""
    mean, std = np.array(how.mean, np.float32), np.array(how.std, np.float32)
    if not spec.normalized_inside:
        return mean, std, np.full(3, how.pad_value, np.float32)
    padding = mean + np.float32(how.pad_value) * std
    return mean, std, padding.round().clip(0, 255).astype(np.uint8) if spec.dtype == 'uint8' else padding
