"""Images from files, sooner: kept decoded, or decoded at a fraction of their size where that is enough."""

from __future__ import annotations

import hashlib
import io
import logging
from pathlib import Path
from typing import Any

import cv2
import mmcv
import numpy as np
from filelock import FileLock
from mmcv.transforms import LoadImageFromFile
from mmengine import fileio
from mmengine.logging import print_log
from PIL import Image

from emo_mm.files import write_bytes
from emo_mm.registry import TRANSFORMS
from emo_mm.runtime.images import upright_size

_JPEG = b'\xff\xd8'
_REDUCED_FLAGS = {8: cv2.IMREAD_REDUCED_COLOR_8, 4: cv2.IMREAD_REDUCED_COLOR_4, 2: cv2.IMREAD_REDUCED_COLOR_2}


class ImageCache:
    """Decoded images in a folder that any number of processes share.

    An entry counts only for the file as it was: path, size and time of modification. Nothing is thrown out where the
    limit is reached, as epochs in random order would throw out what they need next; images beyond it are not kept.

    Args:
        folder: Where the entries lie; made if absent.
        limit: Bytes that they may take together.
    """

    def __init__(self, folder: str | Path, limit: int) -> None:
        if limit < 1:
            raise ValueError(f'limit is {limit} bytes; it must be positive')
        self.folder = Path(folder)
        self.limit = limit
        self.folder.mkdir(parents=True, exist_ok=True)
        self._used = self.folder / 'used_bytes'
        self._full = False

    def get(self, path: str, variant: str = '') -> np.ndarray | None:
        """Return the image of a file as it is now, None where it is not kept.

        Args:
            path: The file.
            variant: What else the image depends on, such as the decoder.
        """
        try:
            with self._entry(path, variant).open('rb') as entry:
                if np.fromfile(entry, np.int64, 2).tolist() != _version(path):
                    return None
                return np.load(entry, allow_pickle=False)
        except (FileNotFoundError, ValueError, EOFError):  # the last two: a file that a crash cut short
            return None

    def put(self, path: str, image: np.ndarray, variant: str = '') -> bool:
        """Keep the image of a file; return whether there was room for it."""
        if self._full:
            return False
        content = io.BytesIO()
        content.write(np.array(_version(path), np.int64).tobytes())
        np.save(content, image, allow_pickle=False)
        entry = self._entry(path, variant)
        try:
            if not self._reserve(content.tell(), entry):
                return self._give_up(f'its {self.limit / 1e9:.1f} GB are full')
            write_bytes(entry, content.getbuffer(), durable=False)
        except OSError as error:  # others use the disk too, and may even remove the folder
            return self._give_up(str(error))
        return True

    def used(self) -> int:
        """Return the bytes that the entries take."""
        return int(self._used.read_text()) if self._used.is_file() else 0

    def _give_up(self, reason: str) -> bool:
        self._full = True
        print_log(
            f'image cache {self.folder}: {reason}; other images are decoded each time', 'current', logging.WARNING
        )
        return False

    def _reserve(self, size: int, entry: Path) -> bool:
        with FileLock(f'{self._used}.lock'):
            replaced = entry.stat().st_size if entry.is_file() else 0
            used = self.used() + size - replaced
            if used > self.limit:
                return False
            self._used.write_text(str(used))
            return True

    def _entry(self, path: str, variant: str) -> Path:
        key = f'{Path(path).absolute()} {variant}'
        return self.folder / f'{hashlib.sha256(key.encode()).hexdigest()}.npy'


def _version(path: str) -> list[int]:
    """What changes when a file does: its time of modification in nanoseconds and its bytes."""
    status = Path(path).stat()
    return [status.st_mtime_ns, status.st_size]


@TRANSFORMS.register_module()
class LoadCachedImage(LoadImageFromFile):
    """mmcv's ``LoadImageFromFile``, which keeps what it decoded: the same pixels.

    Args:
        cache_dir: Folder of the decoded images; see ``ImageCache``.
        cache_limit: Bytes that they may take.
        to_float32: As in mmcv, as are the next three.
        color_type: What to decode to.
        imdecode_backend: The decoder.
        ignore_empty: Whether to skip images that cannot be read.

    Raises:
        ValueError: If ``cache_limit`` is not positive.
    """

    def __init__(
        self,
        cache_dir: str,
        cache_limit: int,
        to_float32: bool = False,
        color_type: str = 'color',
        imdecode_backend: str = 'cv2',
        ignore_empty: bool = False,
    ) -> None:
        super().__init__(to_float32, color_type, imdecode_backend, ignore_empty=ignore_empty)
        self.cache = ImageCache(cache_dir, cache_limit)

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        """Put ``img``, ``img_shape`` and ``ori_shape`` of the file ``img_path`` into ``results``."""
        path = results['img_path']
        variant = f'{self.color_type} {self.imdecode_backend} {self.to_float32}'
        image = self.cache.get(path, variant) if Path(path).is_file() else None
        if image is None:
            loaded = super().transform(results)
            if loaded is not None:
                self.cache.put(path, loaded['img'], variant)
            return loaded
        results['img'] = image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results


@TRANSFORMS.register_module()
class LoadResizedImage(LoadImageFromFile):
    """``LoadImageFromFile`` and ``Resize`` in one, for JPEG files far larger than needed.

    A JPEG decoder can give an image of half, a quarter or an eighth of the size, in less time. The smallest of them
    that is nowhere below that size is decoded and then resized. Where none is, as for photographs of COCO at
    320x320, and for other formats, the pixels are those of the two transforms. Where one is, they are not quite: the
    decoder averages over the pixels that bilinear resizing skips.

    Boxes, which are loaded later, stay in the frame of the file, and ``scale_factor`` leads from it to ``img``.

    Args:
        scale: Width and height to resize to; with ``keep_ratio`` the bounds of the longer and the shorter edge.
        keep_ratio: Whether to keep the ratio of width and height.
        interpolation: How to resize what was decoded.

    Raises:
        ValueError: If ``scale`` is not a pair of positive numbers.
    """

    def __init__(self, scale: tuple[int, int], keep_ratio: bool = False, interpolation: str = 'bilinear') -> None:
        if len(scale) != 2 or min(scale) < 1:
            raise ValueError(f'scale is {scale}; it must be a positive width and height')
        super().__init__()
        self.scale = (scale[0], scale[1])
        self.keep_ratio = keep_ratio
        self.interpolation = interpolation

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Put the resized ``img`` of the file ``img_path`` into ``results``, and what ``Resize`` tells about it.

        Raises:
            ValueError: If the file is no image.
        """
        content = fileio.get(results['img_path'])
        width, height = true_size = _size(content) if content.startswith(_JPEG) else (0, 0)
        flag = _reduced_flag(true_size, self._target(true_size)) if width and height else None
        image = mmcv.imfrombytes(content, flag='color' if flag is None else flag)
        if image is None:
            raise ValueError(f'{results["img_path"]} cannot be decoded as an image')
        if flag is None:
            height, width = image.shape[:2]
        target = self._target((width, height))
        results['img'] = mmcv.imresize(image, target, interpolation=self.interpolation, backend='cv2')
        results['ori_shape'] = (height, width)
        results['img_shape'] = results['img'].shape[:2]
        results['scale'] = self.scale
        results['scale_factor'] = (target[0] / width, target[1] / height)
        results['keep_ratio'] = self.keep_ratio
        return results

    def _target(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the width and height that an image of a width and height gets."""
        return mmcv.rescale_size(size, self.scale) if self.keep_ratio else self.scale


def _size(content: bytes) -> tuple[int, int]:
    """Return width and height of an image as it is shown, from its header; zeros if it has none."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            return upright_size(image)
    except (OSError, Image.DecompressionBombError):  # no image that Pillow takes: left to OpenCV, and to its limits
        return 0, 0


def _reduced_flag(size: tuple[int, int], target: tuple[int, int]) -> int | None:
    """Return OpenCV's flag for the smallest decoded size that is nowhere below the target, None for the full one."""
    for factor, flag in _REDUCED_FLAGS.items():
        if all(edge >= factor * wanted for edge, wanted in zip(size, target, strict=True)):
            return flag
    return None
