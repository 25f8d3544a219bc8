"""What a user may name as images: files, folders, globs, addresses, videos and cameras."""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np

from emo_mm.errors import UserError
from emo_mm.runtime.images import MAX_PIXELS, decode_image, read_image
from emo_mm.web import DownloadError, answer

IMAGE_SUFFIXES = {'.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp', '.gif', '.pgm', '.ppm', '.pbm'}
VIDEO_SUFFIXES = {'.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg', '.wmv'}
MAX_DOWNLOAD = 256 * 2**20  # bytes
STALL_SECONDS = 20.0
MAX_SECONDS = 300.0
_TEXT = bytes(range(32, 127)) + b'\t\n\r\xef\xbb\xbf'  # printable, and the mark that texts may begin with


@dataclass(frozen=True)
class Item:
    """An image to predict.

    Attributes:
        name: What messages and results call it.
        key: Path below an output folder, without a suffix; one item each.
        read: Returns its pixels, (H, W, 3), uint8, red first; raises ``UserError``.
    """

    name: str
    key: str
    read: Callable[[], np.ndarray] = field(repr=False)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Source:
    """A file, an address, a video or a camera.

    Attributes:
        items: Returns the images in it.
        count: Their number; None if it is not known.
    """

    items: Callable[[], Iterator[Item]]
    count: int | None


def find_sources(specs: Sequence[str]) -> list[Source]:
    """Return what the user named, in order.

    Args:
        specs: Paths of images, videos and folders (whose images are taken, subfolders included), globs, ``http(s)``
            addresses of images, and indices of cameras.

    Raises:
        UserError: If something named is not there, or a folder or a glob has no image.
    """
    keys: set[str] = set()
    sources: list[Source] = []
    for spec in specs:
        sources += _sources_of(spec, keys)
    return sources


def _sources_of(spec: str, keys: set[str]) -> list[Source]:
    path = Path(spec)
    if '://' in spec:
        return [_address(spec, keys)]
    if path.is_dir():
        return _folder(path, spec, keys)
    if path.exists():
        return [_file(path, path.stem, keys)]
    if spec.isdecimal():
        key = _unique(f'camera{spec}', keys)
        return [Source(partial(_frames, int(spec), f'camera {spec}', key), None)]
    if glob.has_magic(spec):
        return _matches(spec, keys)
    raise UserError(f'{spec}: there is no such file or folder')


def _address(url: str, keys: set[str]) -> Source:
    if not re.match(r'https?://', url, re.IGNORECASE):
        raise UserError(f'{url}: addresses start with http:// or https://')
    stem = Path(unquote(urlsplit(url).path)).stem or 'image'
    key = _unique(re.sub(r'[^\w.-]', '_', stem)[-80:], keys)
    return _single(Item(url, key, partial(_download, url)))


def _folder(folder: Path, spec: str, keys: set[str]) -> list[Source]:
    found = sorted(p for p in folder.rglob('*') if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
    if not found:
        raise UserError(f'{spec}: the folder has no images ({", ".join(sorted(IMAGE_SUFFIXES))})')
    return [_file(p, p.relative_to(folder).with_suffix('').as_posix(), keys) for p in found]


def _matches(pattern: str, keys: set[str]) -> list[Source]:
    names = glob.glob(pattern, recursive=True)  # noqa: PTH207 - Path.glob takes no absolute patterns
    found = sorted(Path(name) for name in names if Path(name).is_file())
    if not found:
        raise UserError(f'{pattern}: no file fits this')
    return [_file(p, p.stem, keys) for p in found]


def _file(path: Path, key: str, keys: set[str]) -> Source:
    if path.suffix.lower() in VIDEO_SUFFIXES:
        key = _unique(key, keys, folder=True)
        return Source(partial(_frames, path, str(path), key), _frame_count(path))
    return _single(Item(str(path), _unique(key, keys), partial(read_image, path)))


def _single(item: Item) -> Source:
    return Source(lambda: iter([item]), 1)


def _unique(key: str, keys: set[str], folder: bool = False) -> str:
    """Return a key that no other item has, and note it.

    Args:
        key: The preferred key, with ``/`` between its parts.
        keys: The keys in use; those of videos, whose frames lie below them, end in ``/``.
        folder: Whether frames will lie below it.
    """
    # a file may be called `...mp4`, and what it is called without suffix leads upwards
    key = '/'.join(part if part.strip('.') else '_' * len(part) for part in key.split('/'))
    first, _, rest = key.partition('/')
    number = 1
    while any(f'{parent.as_posix()}/' in keys for parent in PurePosixPath(key).parents):  # among the frames of a video
        number += 1
        key = f'{first}_{number}/{rest}'
    number, unique = 1, key
    while any(other.startswith(f'{unique}/') for other in keys) if folder else unique in keys:
        number += 1
        unique = f'{key}_{number}'
    keys.add(f'{unique}/' if folder else unique)
    return unique


def _download(url: str) -> np.ndarray:
    data = bytearray()
    try:
        with answer(url, STALL_SECONDS, MAX_SECONDS, MAX_DOWNLOAD) as got:
            for chunk in got.chunks:
                data += chunk
    except (DownloadError, ValueError) as error:  # the second: not an address after all
        raise UserError(f'{url}: cannot be downloaded: {error}') from None
    return decode_image(bytes(data), url)


def _frames(source: Path | int, name: str, key: str) -> Iterator[Item]:
    """Yield the frames of a video or camera, and an item that fails where they end too soon."""
    capture = _open_video(source, name)
    cv2 = _cv2(name)
    expected, count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0
    width, height = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
    if width * height > MAX_PIXELS:
        capture.release()
        reason = f'{name}: is refused: its frames of {width}x{height} have more than {MAX_PIXELS} pixels'
        yield Item(name, f'{key}/{count + 1:06d}', partial(_fail, reason))
        return
    try:
        while True:
            fine, frame = capture.read()
            if not fine:
                break
            count += 1
            pixels = np.ascontiguousarray(frame[:, :, ::-1])  # blue first -> red first
            yield Item(f'{name} frame {count}', f'{key}/{count:06d}', partial(_same, pixels))
    finally:
        capture.release()
    if isinstance(source, int):
        reason = f'{name}: gives no more after frame {count}'  # it ends when the user says so
    # Containers round the number of frames, but not by more than one.
    elif count == 0 or count < expected - 1:
        reason = f'{name}: is damaged or cut off after frame {count} of {expected}'
    else:
        return
    yield Item(name, f'{key}/{count + 1:06d}', partial(_fail, reason))


def _frame_count(path: Path) -> int | None:
    cv2 = _cv2(str(path))
    capture = _open_video(path, str(path))
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    capture.release()
    return count if count > 0 else None


def _open_video(source: Path | int, name: str) -> Any:
    if isinstance(source, Path):
        with source.open('rb') as file:
            head = file.read(64)
        if head and not head.strip(_TEXT):
            raise UserError(f'{name}: is a text and no video; playlists, which name other files, are not followed')
        # absolute, so that FFmpeg takes no name for one of its protocols, such as `concat:a|b`
        return _cv2(name).VideoCapture(str(source.absolute()))
    capture = _cv2(name).VideoCapture(source)
    if not capture.isOpened():
        raise UserError(f'{name}: there is none, or another program has it')
    return capture


def _cv2(name: str) -> Any:
    try:
        import cv2
    except ImportError:
        raise UserError(f'{name}: videos and cameras need OpenCV: pip install opencv-python-headless') from None
    return cv2


def _same(pixels: np.ndarray) -> np.ndarray:
    return pixels


def _fail(reason: str) -> np.ndarray:
    raise UserError(reason)
