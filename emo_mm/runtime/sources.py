"""What a user may name as images: files, folders, globs, addresses, videos and cameras."""

from __future__ import annotations

import glob
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np

from emo_mm.errors import UserError
from emo_mm.runtime.images import MAX_PIXELS, decode_image, read_image, readable_formats
from emo_mm.web import DownloadError, answer

# End of a file's name -> the kind that must be readable, and what to install where it is not.
_SUFFIXES = {
    **dict.fromkeys(('.jpg', '.jpeg', '.jpe', '.jfif', '.mpo'), ('JPEG', '')),
    **dict.fromkeys(('.png', '.apng'), ('PNG', '')),
    **dict.fromkeys(('.tif', '.tiff'), ('TIFF', '')),
    **dict.fromkeys(('.pgm', '.ppm', '.pbm', '.pnm'), ('PPM', '')),
    **{'.bmp': ('BMP', ''), '.webp': ('WEBP', ''), '.gif': ('GIF', '')},
    **dict.fromkeys(('.jp2', '.j2k', '.jpf', '.jpx'), ('JPEG2000', 'a newer Pillow')),
    **dict.fromkeys(('.avif',), ('AVIF', 'pip install pillow-avif-plugin')),
    **dict.fromkeys(('.heic', '.heif'), ('HEIF', 'pip install pillow-heif')),
}
VIDEO_SUFFIXES = {
    *('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg', '.wmv', '.flv', '.3gp', '.ts', '.mts', '.m2ts')
}
LISTS = ('.txt', '.lst', '.parquet', '.tar')  # of images, for predictions in parts
_OPENCV = 'pip install opencv-python-headless'
_OF_SYSTEMS = {'__MACOSX', 'Thumbs.db', 'desktop.ini'}  # what systems leave in folders, beside names with a dot before
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


def find_sources(specs: Sequence[str], out: str | Path | None = None) -> list[Source]:
    """Return what the user named, in order; a warning tells what of a folder is left out.

    Args:
        specs: Paths of images, videos and folders (whose images and videos are taken, subfolders included, but for
            hidden ones), globs, ``http(s)`` addresses of images, and indices of cameras.
        out: Folder of what is saved. Files in it are no sources where it lies in a folder that is one: an earlier run
            saved them.

    Raises:
        UserError: If something named is not there, or a folder or a glob has no image.
    """
    keys: set[str] = set()
    sources: list[Source] = []
    for spec in specs:
        sources += _sources_of(spec, keys, None if out is None else Path(out))
    return sources


def _sources_of(spec: str, keys: set[str], out: Path | None) -> list[Source]:
    path = Path(spec)
    if '://' in spec:
        return [_address(spec, keys)]
    if path.is_dir():
        return _folder(path, spec, keys, out)
    if path.exists():
        if path.suffix.lower() in LISTS:
            raise UserError(f'{spec}: lists of images and tar files are read with --save-parquet; give it too')
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
    return _single(Item(url, key, partial(download_image, url)))


def _folder(folder: Path, spec: str, keys: set[str], out: Path | None) -> list[Source]:
    found = images_in(folder, spec, out)
    return [_file(p, p.relative_to(folder).with_suffix('').as_posix(), keys) for p in found]


def images_in(folder: Path, spec: str, out: Path | None = None) -> list[Path]:
    """Return the images and videos in a folder and below, sorted; a warning tells what is left out.

    Args:
        folder: The folder.
        spec: What the user called it.
        out: Folder of what is saved, whose files are none.

    Raises:
        UserError: If there is none.
    """
    files = [p for p in sorted(folder.rglob('*')) if p.is_file() and not _is_hidden(p.relative_to(folder))]
    saved = [p for p in files if out is not None and _is_saved(p, folder, out)]
    reasons = {p: _why_not(p) for p in files if p not in saved}
    found = [p for p, reason in reasons.items() if reason is None]
    others = _counted({p: reason for p, reason in reasons.items() if reason is not None})
    if saved:
        others = [*others, f'{len(saved)} that {"was" if len(saved) == 1 else "were"} saved in {out}']
    left_out = ', '.join(others)
    if not found:
        suffixes = ', '.join(sorted(suffix for suffix in _SUFFIXES if _is_readable(suffix)))
        raise UserError(f'{spec}: the folder has no images ({suffixes}){f", but {left_out}" if left_out else ""}')
    if left_out:
        logging.getLogger(__name__).warning('%s: left out: %s', spec, left_out)
    return found


def _is_hidden(path: Path) -> bool:
    """Tell whether a path in a folder is one that systems and programs keep for themselves."""
    return any(part.startswith('.') or part in _OF_SYSTEMS for part in path.parts)


def _is_saved(path: Path, folder: Path, out: Path) -> bool:
    """Tell whether a file lies in the folder of what is saved, which lies in a folder of sources."""
    inner = out.resolve()
    return folder.resolve() in inner.parents and inner in path.resolve().parents


def _why_not(path: Path) -> str | None:
    """Return what a file needs to be predicted; None if it can be, an empty text if nothing helps."""
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        if _is_text(path):  # a program in TypeScript, a playlist
            return ''
        return None if find_spec('cv2') is not None else _OPENCV
    if suffix not in _SUFFIXES:
        return ''
    return None if _is_readable(suffix) else _SUFFIXES[suffix][1]


def is_image_name(name: str) -> bool:
    """Tell whether a name ends as those of images that can be read here."""
    suffix = PurePosixPath(name).suffix.lower()
    return suffix in _SUFFIXES and _is_readable(suffix)


def _is_readable(suffix: str) -> bool:
    return _SUFFIXES[suffix][0] in readable_formats()


def _counted(reasons: Mapping[Path, str]) -> list[str]:
    """Return how many files there are of each suffix, with what would make them readable."""
    kinds = Counter((path.suffix.lower() or 'without a suffix', reason) for path, reason in reasons.items())
    return [
        f'{number} {suffix}{f" ({reason})" if reason else ""}' for (suffix, reason), number in sorted(kinds.items())
    ]


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


def download_image(url: str) -> np.ndarray:
    """Return the pixels of the image at an http(s) address.

    Raises:
        UserError: If it cannot be downloaded or is no image.
    """
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
        if _is_text(source):
            raise UserError(f'{name}: is a text and no video; playlists, which name other files, are not followed')
        # absolute, so that FFmpeg takes no name for one of its protocols, such as `concat:a|b`
        return _cv2(name).VideoCapture(str(source.absolute()))
    capture = _cv2(name).VideoCapture(source)
    if not capture.isOpened():
        raise UserError(f'{name}: there is none, or another program has it')
    return capture


def _is_text(path: Path) -> bool:
    with path.open('rb') as file:
        head = file.read(64)
    return bool(head) and not head.strip(_TEXT)


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
