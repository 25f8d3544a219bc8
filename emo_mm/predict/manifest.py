"""The images of a prediction over many, in an order that never changes, read without keeping them in memory."""

from __future__ import annotations

import glob
import hashlib
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from emo_mm.errors import UserError
from emo_mm.runtime.images import decode_image, read_image
from emo_mm.runtime.sources import LISTS, VIDEO_SUFFIXES, download_image, images_in, is_image_name

_TEXTS = ('.txt', '.lst')
_OTHERS = ('.csv', '.tsv', '.json', '.jsonl', '.gz', '.tgz', '.zip', '.bz2', '.xz', '.zst')
_COLUMN = 'path'  # of a Parquet file, where none is named


@dataclass(frozen=True)
class Entry:
    """An image of a manifest.

    Attributes:
        name: What results call it; no two places have one name.
        read: Returns its pixels, (H, W, 3), uint8, red first; raises ``UserError``.
    """

    name: str
    read: Callable[[], np.ndarray] = field(repr=False)


@dataclass(frozen=True)
class Manifest:
    """A list of images.

    Attributes:
        entries: Returns them anew, in their order.
        count: Their number.
        sha256: Hash of their names in their order.
    """

    entries: Callable[[], Iterator[Entry]]
    count: int
    sha256: str


def read_manifest(specs: Sequence[str], out: str | Path | None = None) -> Manifest:
    """Return the images that a user names.

    Args:
        specs: Images, folders (sorted, subfolders included) and globs; lists, ``.txt`` or ``.lst``, with a path on each
            line; ``FILE.parquet``, whose column ``path`` lists them, or ``FILE.parquet#COLUMN``; ``.tar`` files with
            images in them; addresses of images, and of files and folders in stores that fsspec reads (``s3://``,
            ``gs://``, ``hf://``).
        out: Folder of what is saved, whose files are no images.

    Raises:
        UserError: If something named is not there, or there is no image.
    """
    readers = [_reader(spec, None if out is None else Path(out)) for spec in specs]

    def entries() -> Iterator[Entry]:
        return chain.from_iterable(reader() for reader in readers)

    digest, count = hashlib.sha256(), 0
    for entry in entries():
        digest.update(f'{entry.name}\n'.encode(errors='surrogateescape'))
        count += 1
    if not count:
        raise UserError(f'{", ".join(specs)}: no image is listed')
    return Manifest(entries, count, digest.hexdigest())


Reader = Callable[[], Iterable[Entry]]


def _reader(spec: str, out: Path | None) -> Reader:
    """Return what yields the images of a source, anew with each call."""
    path = Path(spec)
    if '://' in spec:
        return _address(spec)
    if path.is_dir():
        names = [str(each) for each in images_in(path, spec, out)]
        return partial(_named, names)
    if path.is_file():
        return _file(path)
    parquet, _, column = spec.rpartition('#')
    if parquet and Path(parquet).is_file():
        return partial(_column, Path(parquet), column)
    if glob.has_magic(spec):
        found = sorted(name for name in glob.glob(spec, recursive=True) if Path(name).is_file())  # noqa: PTH207
        if found:
            return lambda: chain.from_iterable(_file(Path(name))() for name in found)
        raise UserError(f'{spec}: no file fits this')
    raise UserError(f'{spec}: there is no such file or folder')


def _file(path: Path) -> Reader:
    suffix = path.suffix.lower()
    if suffix in _TEXTS:
        return partial(_lines, path)
    if suffix == '.parquet':
        return partial(_column, path, _COLUMN)
    if suffix == '.tar':
        return partial(_members, path)
    if suffix in _OTHERS:
        raise UserError(f'{path}: is no image; images are listed by {", ".join(LISTS)}, the last one not compressed')
    return partial(_named, [str(path)])


def _named(names: Iterable[str]) -> Iterator[Entry]:
    for name in names:
        if Path(name).suffix.lower() in VIDEO_SUFFIXES:
            raise UserError(f'{name}: is a video, which has no place in a list of images; predict it by itself')
        yield Entry(name, partial(_read, name))


def _read(name: str) -> np.ndarray:
    if re.match(r'https?://', name, re.IGNORECASE):
        return download_image(name)
    if '://' in name:
        store, path = _store(name)
        return _from_store(store, path, name)
    return read_image(name)


def _beside(listed: str, folder: Path) -> str:
    """Return a path of a list: relative ones lie beside the list."""
    return listed if '://' in listed or Path(listed).is_absolute() else str(folder / listed)


def _lines(path: Path) -> Iterator[Entry]:
    try:
        with path.open(encoding='utf-8-sig') as file:
            lines = (line.strip() for line in file)
            yield from _named(_beside(line, path.parent) for line in lines if line and not line.startswith('# '))
    except UnicodeDecodeError:
        raise UserError(f'{path}: is no text in UTF-8; save the list as such') from None
    except OSError as error:
        raise UserError(f'{path}: cannot be read: {error.strerror}') from None


def _column(path: Path, column: str) -> Iterator[Entry]:
    parquet = pyarrow_parquet(str(path))
    try:
        with parquet.ParquetFile(path) as file:
            if column not in file.schema_arrow.names:
                names = ', '.join(file.schema_arrow.names)
                raise UserError(f'{path}: has no column {column!r} but {names}; name one: {path}#COLUMN')
            kind = file.schema_arrow.field(column).type
            if str(kind) not in ('string', 'large_string', 'string_view'):
                raise UserError(f'{path}: its column {column!r} holds no paths but {kind}; name another: {path}#COLUMN')
            for batch in file.iter_batches(columns=[column]):
                yield from _named(_beside(value, path.parent) for value in batch.column(0).to_pylist() if value)
    except (OSError, ValueError) as error:  # pyarrow's own errors are among these
        if isinstance(error, UserError):
            raise
        raise UserError(f'{path}: cannot be read as Parquet: {error}') from None


def _members(path: Path) -> Iterator[Entry]:
    """Yield the images in a tar file, which is not unpacked: each is read from its place in the file."""
    try:
        with tarfile.open(path, 'r:') as file:
            for member in file:
                if member.isfile() and is_image_name(member.name):
                    name = f'{path}#{member.name}'
                    yield Entry(name, partial(_part, path, member.offset_data, member.size, name))
    except (OSError, tarfile.TarError) as error:
        raise UserError(f'{path}: cannot be read as tar: {error}') from None


def _part(path: Path, start: int, size: int, name: str) -> np.ndarray:
    try:
        with path.open('rb') as file:
            file.seek(start)
            return decode_image(file.read(size), name)
    except OSError as error:
        raise UserError(f'{name}: cannot be read: {error.strerror}') from None


def _address(spec: str) -> Reader:
    if re.match(r'https?://', spec, re.IGNORECASE):
        return partial(_named, [spec])
    store, path = _store(spec)
    scheme = spec.partition('://')[0]
    try:
        found = sorted(store.find(path)) or ([path] if store.exists(path) else [])
    except Exception as error:  # each store has errors of its own
        raise UserError(f'{spec}: cannot be listed: {error}') from None
    names = [f'{scheme}://{each}' for each in found if is_image_name(each)]
    if not names:
        raise UserError(f'{spec}: holds no image')
    return partial(_named, names)


def _store(address: str) -> tuple[Any, str]:
    """Return the file system of an address and the path in it.

    Raises:
        UserError: If what reads it is not installed, or there is no such kind of address.
    """
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise UserError(f"{address}: stores are read by fsspec: pip install 'emo-mm[stores]'") from None
    try:
        store, path = url_to_fs(address)
    except (ImportError, ValueError) as error:  # an unknown kind, or one whose package is missing; the error names it
        raise UserError(f'{address}: cannot be opened: {error}') from None
    return store, str(path)


def _from_store(store: Any, path: str, name: str) -> np.ndarray:
    try:
        data = store.cat_file(path)
    except Exception as error:  # each store has errors of its own
        raise UserError(f'{name}: cannot be read: {error}') from None
    return decode_image(data, name)


def pyarrow_parquet(what: str) -> Any:
    """Return ``pyarrow.parquet``.

    Args:
        what: What needs it, for the message.

    Raises:
        UserError: If it is not installed.
    """
    try:
        from pyarrow import parquet
    except ImportError:
        raise UserError(f"{what}: Parquet needs pyarrow: pip install 'emo-mm[parquet]'") from None
    return parquet
