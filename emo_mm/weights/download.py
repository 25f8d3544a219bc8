"""Turning a path, a published name or an address into a verified local file."""

from __future__ import annotations

import difflib
import hashlib
import http.client
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from filelock import FileLock, Timeout
from tqdm import tqdm

from emo_mm.errors import UserError
from emo_mm.weights.cache import cache_dir, git_blob_sha1, is_web_page
from emo_mm.weights.registry import PUBLISHED, UNPUBLISHED, PublishedWeights

STALL_SECONDS = 30.0
LOCK_SECONDS = 1800.0
MAX_BYTES = 2**30
CHUNK_BYTES = 1 << 16


class DownloadError(UserError):
    """A download that did not bring the file; nothing of it is left behind."""


def resolve_weights(spec: str | os.PathLike[str]) -> Path:
    """Return the local file for a path, the name of published weights, or an http(s) address.

    Published files are downloaded once into the user's cache and verified against their git blob id on every use. An
    address is downloaded once as it is, since nothing is known to verify it by.

    Raises:
        UserError: If there is no such file or name, or if the download fails or brings something else.
    """
    text = os.fspath(spec)
    path = Path(text).expanduser()
    if path.is_file():
        return path
    if text in PUBLISHED:
        return _published_file(PUBLISHED[text])
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
            f'cannot get {row.name} from {row.url}: {error}; put the file by hand at {target}{in_the_way}'
        ) from None
    return target


def _file_at_address(url: str) -> Path:
    parts = urlsplit(url)
    if not parts.hostname:
        raise UserError(f'{url} is not a complete address; it must look like https://host/path/file.pth')
    # The address decides the name, cleaned so that it cannot lead out of the cache.
    name = re.sub(r'[^\w.-]', '_', unquote(parts.path).rstrip('/').rsplit('/', 1)[-1])[-80:] or 'weights'
    target = cache_dir() / f'{hashlib.sha256(url.encode()).hexdigest()[:12]}-{name}'
    if target.is_file():
        return target
    try:
        with _locked(target):
            if not target.is_file():
                fetch(url, target)
    except DownloadError as error:
        # Neither a password nor a token in the query belongs in a log.
        shown = urlunsplit((parts.scheme, parts.netloc.rsplit('@', 1)[-1], parts.path, '', ''))
        raise UserError(
            f'cannot download {shown}: {error}; download it by hand and give the path of the file'
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


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    """Let one of several processes download while the others wait for its file."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
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
        check: Raises :class:`DownloadError` if the file is not the wanted one.
        stall_seconds: Give up when nothing arrives for this long; None takes ``STALL_SECONDS``.
        max_bytes: Give up beyond this size; None takes ``MAX_BYTES``.

    Raises:
        DownloadError: If the file does not arrive whole, is a web page, is too large or fails the check.
    """
    partial = target.with_name(f'{target.name}.{os.getpid()}.part')
    stall = STALL_SECONDS if stall_seconds is None else stall_seconds
    try:
        _receive(url, target.name, partial, stall, MAX_BYTES if max_bytes is None else max_bytes)
        if check is not None:
            check(partial)
        partial.replace(target)
    except urllib.error.HTTPError as error:
        # A refused redirect brings its reason over two lines.
        raise DownloadError(f'the server answered {error.code} {" ".join(str(error.reason).split())}') from None
    except TimeoutError:
        raise DownloadError(f'nothing arrived for {stall:g} s') from None
    except urllib.error.URLError as error:
        reason = f'nothing arrived for {stall:g} s' if isinstance(error.reason, TimeoutError) else error.reason
        raise DownloadError(str(reason)) from None
    except http.client.HTTPException as error:
        raise DownloadError(f'the answer broke off ({type(error).__name__})') from None
    except OSError as error:
        raise DownloadError(str(error)) from None
    finally:
        partial.unlink(missing_ok=True)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a few redirects, and none that leaves https or the web."""

    max_redirections = 5
    max_repeats = 2

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        allowed = ('https',) if req.type == 'https' else ('http', 'https')
        if urlsplit(newurl).scheme not in allowed:
            raise urllib.error.URLError(f'it redirects to {newurl}, which is not {" or ".join(allowed)}')
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _receive(url: str, label: str, partial: Path, stall_seconds: float, max_bytes: int) -> None:
    request = urllib.request.Request(url, headers={'User-Agent': 'emo_mm', 'Accept-Encoding': 'identity'})
    opener = urllib.request.build_opener(_Redirects)
    with opener.open(request, timeout=stall_seconds) as response, partial.open('wb') as file:
        length = response.headers.get('Content-Length')
        expected = int(length) if length and length.isdigit() else None
        if expected is not None and expected > max_bytes:
            raise DownloadError(f'it announces {expected} bytes, more than the limit of {max_bytes}')
        received = 0
        # Without a terminal (disable=None) no bar is drawn: a log file needs none.
        with tqdm(desc=f'downloading {label}', total=expected, unit='B', unit_scale=True, disable=None) as progress:
            while chunk := response.read(CHUNK_BYTES):
                if received == 0 and _is_page(chunk, response.headers.get_content_type()):
                    raise DownloadError('the server sent a web page instead of the file' + _page_hint(url))
                received += len(chunk)
                if received > max_bytes:
                    raise DownloadError(f'it is larger than the limit of {max_bytes} bytes')
                file.write(chunk)
                progress.update(len(chunk))
        if received == 0:
            raise DownloadError('the server sent an empty file')
        if expected is not None and received != expected:
            raise DownloadError(f'the answer broke off after {received} of {expected} bytes')
        file.flush()
        os.fsync(file.fileno())


def _is_page(chunk: bytes, content_type: str) -> bool:
    return content_type in ('text/html', 'application/xhtml+xml') or is_web_page(chunk)


def _page_hint(url: str) -> str:
    parts = urlsplit(url)
    if parts.hostname == 'github.com' and '/blob/' in parts.path:
        return ' (a blob/ address of GitHub is a page; use its raw/ address)'
    return ''
