"""Turning a path, a published name or an address into a verified local file."""

from __future__ import annotations

import difflib
import hashlib
import ipaddress
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from filelock import FileLock, Timeout
from tqdm import tqdm

from emo_mm.errors import UserError
from emo_mm.files import atomic_write
from emo_mm.web import DownloadError, answer, without_secrets
from emo_mm.weights.cache import cache_dir, git_blob_sha1, is_web_page, sha256_of
from emo_mm.weights.hub import SCHEME, resolve_hub
from emo_mm.weights.registry import PUBLISHED, UNPUBLISHED, PublishedWeights

STALL_SECONDS = 30.0
MAX_SECONDS = 3600.0
LOCK_SECONDS = 1800.0
MAX_BYTES = 2**30


def resolve_weights(spec: str | os.PathLike[str]) -> Path:
    """Return the local file for a path, the name of published weights, an http(s) address, or one of the Hub (``hf://``).

    Published files are downloaded once into the user's cache and verified against their git blob id on every use. An
    address is downloaded once, and verified on every use where it ends in ``#sha256=`` and the hash of the file;
    without one it must be https.

    Raises:
        UserError: If there is no such file or name, or if the download fails or brings something else.
    """
    text = os.fspath(spec)
    path = Path(text).expanduser()
    if path.is_file():
        return path
    if text in PUBLISHED:
        return _published_file(PUBLISHED[text])
    if text.startswith(SCHEME):
        return resolve_hub(text)
    if urlsplit(text).scheme in ('http', 'https'):
        return _file_at_address(text)
    if path.is_dir():
        raise UserError(f'{text} is a folder; give the checkpoint file in it')
    if text in UNPUBLISHED:
        raise UserError(
            f'{text}: the authors published no such weights; give a file of your own (--weights FILE), or train from '
            'scratch (--weights none)'
        )
    raise UserError(f'{text} is neither a file nor the name of published weights{_suggestion(text)}')


def _suggestion(text: str) -> str:
    near = difflib.get_close_matches(text.lower().replace('-', '_'), PUBLISHED, n=1)
    if near:
        return f'; did you mean {near[0]}?'
    return f'; the names are {", ".join(PUBLISHED)}'


def _published_file(row: PublishedWeights) -> Path:
    target = cache_dir() / row.filename

    def check(path: Path) -> None:
        blob = git_blob_sha1(path)
        if blob != row.git_blob_sha1:
            raise DownloadError(f'it is not the published file (git blob id {blob}, not {row.git_blob_sha1})')

    if _passes(target, check):
        return target
    in_the_way = ' (what lies there now is another file)' if target.exists() else ''
    try:
        with _locked(target):
            # Another process may have brought it while this one waited.
            if not _passes(target, check):
                fetch(row.url, target, check)
    except DownloadError as error:
        raise UserError(
            f'cannot get {row.name} from {row.url}: {error}; without a network download it elsewhere and save it as '
            f'{target}{in_the_way}'
        ) from None
    return target


def _file_at_address(url: str) -> Path:
    parts = urlsplit(url)
    if not parts.hostname:
        raise UserError(f'{url} is not a complete address; it must look like https://host/path/file.pth')
    expected = parts.fragment.removeprefix('sha256=') if parts.fragment.startswith('sha256=') else None
    if expected is not None and not re.fullmatch(r'[0-9a-fA-F]{64}', expected):
        raise UserError(f'{url} ends in a #sha256= that is no SHA-256: 64 hexadecimal digits')
    if expected is None and parts.scheme == 'http' and not _is_this_machine(parts.hostname):
        raise UserError(
            f'{without_secrets(url)} is not protected on its way: use https, or add #sha256= and the hash of the file'
        )

    def check(path: Path) -> None:
        found = expected and sha256_of(path)
        if found != (expected and expected.lower()):
            raise DownloadError(f'it is not the expected file (its SHA-256 is {found}, not {expected})')

    # The address decides the name, cleaned so that it cannot lead out of the cache.
    name = re.sub(r'[^\w.-]', '_', unquote(parts.path).rstrip('/').rsplit('/', 1)[-1])[-80:] or 'weights'
    target = cache_dir() / f'{hashlib.sha256(url.encode()).hexdigest()[:12]}-{name}'
    if _passes(target, check):
        return target
    try:
        with _locked(target):
            if not _passes(target, check):
                fetch(url.partition('#')[0], target, check)
    except DownloadError as error:
        raise UserError(
            f'cannot download {without_secrets(url)}: {error}; download it by hand and give the path of the file'
        ) from None
    return target


def _passes(path: Path, check: Callable[[Path], None]) -> bool:
    try:
        if not path.is_file():
            return False
        check(path)
    except (DownloadError, OSError):
        return False
    return True


def _is_this_machine(host: str) -> bool:
    try:
        return host == 'localhost' or ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return False


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    """Let one of several processes download while the others wait for its file."""
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = FileLock(f'{target}.lock', timeout=LOCK_SECONDS)
        lock.acquire()
    except Timeout:
        raise DownloadError(f'another process has held {target}.lock for {LOCK_SECONDS:.0f} s') from None
    except OSError as error:
        raise DownloadError(f'the cache {target.parent} is not writable ({error.strerror}); set EMO_MM_CACHE') from None
    try:
        yield
    finally:
        lock.release()


def fetch(
    url: str,
    target: Path,
    check: Callable[[Path], None] | None = None,
    *,
    stall_seconds: float | None = None,
    max_bytes: int | None = None,
) -> None:
    """Download one file, check it, and only then move it to its place.

    Args:
        url: Address; a redirect may not lead from https to anything else.
        target: Where the file goes, in an existing folder.
        check: Raises :class:`DownloadError` if the file is not the expected one.
        stall_seconds: Give up when nothing arrives for this long; None takes ``STALL_SECONDS``.
        max_bytes: Give up beyond this size; None takes ``MAX_BYTES``.

    Raises:
        DownloadError: If the file does not arrive complete, is a web page, is too large or fails the check.
    """
    stall = STALL_SECONDS if stall_seconds is None else stall_seconds
    limit = MAX_BYTES if max_bytes is None else max_bytes
    try:
        with atomic_write(target) as file, answer(url, stall, MAX_SECONDS, limit) as got:
            first = True
            # Without a terminal (disable=None) no bar is drawn: a log file needs none.
            with tqdm(
                desc=f'downloading {target.name}', total=got.size, unit='B', unit_scale=True, disable=None
            ) as progress:
                for chunk in got.chunks:
                    if first and _is_page(chunk, got.content_type):
                        raise DownloadError('the server sent a web page instead of the file' + _page_hint(url))
                    first = False
                    file.write(chunk)
                    progress.update(len(chunk))
            if check is not None:
                file.flush()
                check(Path(file.name))
    except OSError as error:
        raise DownloadError(str(error)) from None


def _is_page(chunk: bytes, content_type: str) -> bool:
    return content_type in ('text/html', 'application/xhtml+xml') or is_web_page(chunk)


def _page_hint(url: str) -> str:
    parts = urlsplit(url)
    if parts.hostname == 'github.com' and '/blob/' in parts.path:
        return ' (a blob/ address of GitHub is a page; use its raw/ address)'
    return ''
