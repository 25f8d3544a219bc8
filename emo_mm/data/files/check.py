"""Single image and mask files: is each what it should be? In parallel, and each file once as long as it stays as is.

The quick check of an image reads its header and looks for the end that its format prescribes. Only where that end is
not as it should be the image is decoded, to be sure. So it finds files that are no images, empty or cut off, which is
what broken downloads and full disks leave, but not damage in the middle. The full check decodes every image, and
compares the check sums of PNG files. JPEG has none: what its decoders conceal is not found. Masks are always decoded,
as the labels are in their pixels.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from emo_mm.data.files.bar import file_bar
from emo_mm.data.files.cache import CheckCache
from emo_mm.machine import available_cores
from emo_mm.runtime.images import FORMATS, swaps_sides, upright_size

CHECKS = ('quick', 'full')

_TAIL = 64  # bytes read from the end of a file
# What a whole file ends in, after padding. Other formats are decoded in either check.
_ENDINGS = {'JPEG': b'\xff\xd9', 'MPO': b'\xff\xd9', 'PNG': b'IEND\xaeB`\x82'}
_READ_BY_OPENCV = {'JPEG', 'MPO', 'PNG', 'BMP', 'PPM', 'TIFF', 'WEBP'}
_CHUNK = 64  # files that a process is given at once
_DARK = 1 << 14  # below it, the upper 8 of 16 bits are below 64
_FEW = 256  # files for which starting processes does not pay


@dataclass(frozen=True)
class FileAnswer:
    """What the check of a file found.

    Attributes:
        kind: The fault, empty if there is none.
        detail: The decoder's words on it.
        width: Width in pixels as the toolboxes decode it, turned as its EXIF data say; 0 where it has none.
        height: Height likewise.
        labels: Of a mask: the labels that it holds.
        stored: Width and height in the file, where its EXIF data turn it; else None.
        peak: Of an image of 16 bits: its largest value; else 0.
    """

    kind: str = ''
    detail: str = ''
    width: int = 0
    height: int = 0
    labels: tuple[int, ...] = ()
    stored: tuple[int, int] | None = None
    peak: int = 0


def check_image(path: str, full: bool) -> FileAnswer:
    """Check an image file by its header and its end, or by decoding it."""
    try:
        if not Path(path).stat().st_size:
            return FileAnswer('empty file')
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # of odd EXIF data and large images; errors are what counts here
            with Image.open(path, formats=FORMATS) as image:
                # 16 bits, which Pillow may hold as 8 or 32; once it has decoded, nothing tells
                deep = any(';16' in str(tile[3]) for tile in image.tile)
                kind, (width, height) = image.format or '', upright_size(image)
                stored = image.size if swaps_sides(image) else None
                decoded = full or deep or not _ends_well(path, kind)
                if decoded:
                    image.load()
                peak = _peak(image) if deep else 0
                floating = image.mode == 'F'
            if decoded:
                _verify(path)
        if floating:
            return FileAnswer('image of floating-point pixels', 'their range is not known; convert it to 8 bits')
        if kind not in _READ_BY_OPENCV and not _opencv_reads(path):
            return FileAnswer('image of a kind that OpenCV does not read', kind)
    except Exception as error:  # decoders fail in as many ways as there are bytes
        return _unreadable(error)
    return FileAnswer(width=width, height=height, stored=stored, peak=peak)


def _peak(image: Image.Image) -> int:
    """Return the largest value of a decoded image of 16 bits; Pillow keeps the upper 8 of several channels."""
    if len(image.getbands()) == 1:
        return int(np.asarray(image).max())
    return int(np.asarray(image).max()) << 8 | 255


def check_mask(path: str) -> FileAnswer:
    """Check an index mask by decoding it: one channel of labels of 8 bits."""
    try:
        if not Path(path).stat().st_size:
            return FileAnswer('empty file')
        with Image.open(path, formats=FORMATS) as image:
            labels = np.asarray(image)
        _verify(path)
    except Exception as error:  # as above
        return _unreadable(error)
    if labels.ndim != 2:
        return FileAnswer('mask of several channels', f'{labels.shape[-1]}, where class numbers need one')
    if labels.dtype != np.uint8:
        if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) <= 255:
            return FileAnswer('labels beyond 8 bits', f'from {labels.min()} to {labels.max()}')
        labels = labels.astype(np.uint8)
    present = np.flatnonzero(np.bincount(labels.ravel(), minlength=256))  # (H, W) -> (H*W,) -> (labels found,)
    return FileAnswer(width=labels.shape[1], height=labels.shape[0], labels=tuple(present.tolist()))


def check_files(paths: Sequence[str], check: str, cache: CheckCache | None = None) -> list[FileAnswer]:
    """Check many files, in parallel and with a progress bar where it takes long.

    Args:
        paths: The files.
        check: ``quick`` or ``full`` for images, ``mask`` for index masks.
        cache: Answers of earlier runs, which count for files that have not changed; None asks each file.

    Returns:
        An answer per file.
    """
    versions = [_version(path) for path in paths]
    answers: list[FileAnswer | None] = [None if version else FileAnswer('missing file') for version in versions]
    known = cache.get(paths, versions, check) if cache else {}
    for index, fields in known.items():
        answers[index] = _from_fields(fields)
    asked = [index for index, answer in enumerate(answers) if answer is None]
    fresh = {}
    for index, answer in zip(asked, _ask([paths[index] for index in asked], check), strict=True):
        answers[index] = fresh[index] = answer
    if cache:  # faults are looked at again each time: what fixes them need not change size or time
        sound = {index: _to_fields(answer) for index, answer in fresh.items() if not answer.kind}
        cache.put(paths, versions, check, sound)
    return without_dark_ones([answer for answer in answers if answer is not None])


def without_dark_ones(answers: list[FileAnswer]) -> list[FileAnswer]:
    """Return answers in which images of 16 bits are faults, where they use so little of these that 8 bits are dark.

    All decoders here keep the upper 8 of 16 bits, so photographs of 10 or 12 bits become nearly black. A dark one among
    others that use the whole range is as it should be.
    """
    if not 0 < max((answer.peak for answer in answers), default=0) < _DARK:
        return answers
    return [
        replace(
            answer,
            kind='image of 16 bits that is nearly black in 8 bits',
            detail=f'values reach {answer.peak} of 65535, so {answer.peak >> 8} of 255; stretch them over 8 bits',
        )
        if answer.peak and not answer.kind
        else answer
        for answer in answers
    ]


def _ask(paths: list[str], check: str) -> list[FileAnswer]:
    chunks = [(paths[start : start + _CHUNK], check) for start in range(0, len(paths), _CHUNK)]
    bar = file_bar(len(paths), 'checking masks' if check == 'mask' else f'checking images ({check})')
    answers: list[FileAnswer] = []
    workers = min(available_cores(), len(chunks))
    with bar:
        if len(paths) < _FEW or workers < 2:
            for chunk in chunks:
                answers += _ask_chunk(chunk)
                bar.update(len(chunk[0]))
            return answers
        # As the loaders of a training start theirs: forked children need not import the main module again.
        context = multiprocessing.get_context('fork' if sys.platform == 'linux' else 'spawn')
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            for found in pool.map(_ask_chunk, chunks):
                answers += found
                bar.update(len(found))
    return answers


def _ask_chunk(chunk: tuple[list[str], str]) -> list[FileAnswer]:
    paths, check = chunk
    if check == 'mask':
        return [check_mask(path) for path in paths]
    return [check_image(path, check == 'full') for path in paths]


def _version(path: str) -> tuple[int, int] | None:
    """Size and time of modification of a file; None where there is no file."""
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return (status.st_size, status.st_mtime_ns)


def _ends_well(path: str, kind: str) -> bool:
    ending = _ENDINGS.get(kind)
    if ending is None:
        return False
    with Path(path).open('rb') as file:
        file.seek(-min(_TAIL, file.seek(0, os.SEEK_END)), os.SEEK_END)
        return file.read().rstrip(b'\0').endswith(ending)


def _verify(path: str) -> None:
    """Compare the check sums of a PNG file with its content, which Pillow does not do as it decodes; OpenCV stops."""
    with Image.open(path, formats=FORMATS) as image:
        if image.format == 'PNG':
            image.verify()


def _opencv_reads(path: str) -> bool:
    import cv2

    return cv2.imread(path) is not None


def _unreadable(error: Exception) -> FileAnswer:
    if isinstance(error, PermissionError):
        return FileAnswer('file that may not be read', str(error.strerror))
    if isinstance(error, Image.UnidentifiedImageError):
        return FileAnswer('no image, or damaged from its beginning')
    if 'truncated' in str(error) or isinstance(error, EOFError):
        return FileAnswer('truncated image', str(error))
    return FileAnswer('damaged image', str(error))


def _to_fields(answer: FileAnswer) -> list:
    stored = None if answer.stored is None else list(answer.stored)
    return [answer.kind, answer.detail, answer.width, answer.height, list(answer.labels), stored, answer.peak]


def _from_fields(fields: list) -> FileAnswer:
    kind, detail, width, height, labels, stored, peak = fields
    return FileAnswer(kind, detail, width, height, tuple(labels), None if stored is None else tuple(stored), peak)
