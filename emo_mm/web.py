"""Reading http(s) addresses: bounded in size and time, and never led to anything but the web."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from emo_mm.errors import UserError

CHUNK_BYTES = 1 << 16


class DownloadError(UserError):
    """A download that did not bring the file; nothing of it is left behind."""


@dataclass(frozen=True)
class Answer:
    """What a server sends.

    Attributes:
        size: The announced bytes; None without.
        content_type: Such as ``text/html``.
        chunks: The content, piece by piece; raises :class:`DownloadError` where it is too large or breaks off.
    """

    size: int | None
    content_type: str
    chunks: Iterator[bytes]


@contextmanager
def answer(url: str, stall_seconds: float, max_seconds: float, max_bytes: int) -> Iterator[Answer]:
    """Ask for an address.

    Args:
        url: The address; a redirect may not lead from https to anything else, nor out of the web.
        stall_seconds: Give up when nothing arrives for this long.
        max_seconds: Give up when the content has not arrived after this long.
        max_bytes: Give up beyond this size.

    Raises:
        DownloadError: If the content does not arrive whole, or is too large.
    """
    request = urllib.request.Request(url, headers={'User-Agent': 'emo_mm', 'Accept-Encoding': 'identity'})
    try:
        with _opener().open(request, timeout=stall_seconds) as response:
            length = response.headers.get('Content-Length')
            size = int(length) if length and length.isdigit() else None
            if size is not None and size > max_bytes:
                raise DownloadError(f'it announces {size} bytes, more than the limit of {max_bytes}')
            yield Answer(size, response.headers.get_content_type(), _chunks(response, size, max_seconds, max_bytes))
    except urllib.error.HTTPError as error:
        # A refused redirect brings its reason over two lines.
        raise DownloadError(f'the server answered {error.code} {" ".join(str(error.reason).split())}') from None
    except TimeoutError:
        raise DownloadError(f'nothing arrived for {stall_seconds:g} s') from None
    except urllib.error.URLError as error:
        stalled = isinstance(error.reason, TimeoutError)
        raise DownloadError(f'nothing arrived for {stall_seconds:g} s' if stalled else str(error.reason)) from None
    except http.client.HTTPException as error:
        raise DownloadError(f'the answer broke off ({type(error).__name__})') from None
    # the second: a name that no host can have
    except (OSError, UnicodeError) as error:
        raise DownloadError(str(error)) from None


def without_secrets(url: str) -> str:
    """Return an address for messages: neither a password nor a token in the query belongs in a log."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rsplit('@', 1)[-1], parts.path, '', ''))


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a few redirects, and none that leaves https or the web."""

    max_redirections = 5
    max_repeats = 2

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        allowed = ('https',) if req.type == 'https' else ('http', 'https')
        if urlsplit(newurl).scheme not in allowed:
            raise urllib.error.URLError(f'it redirects to {newurl}, which is not {" or ".join(allowed)}')
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """Return what opens http and https; urllib's own also opens files, FTP and texts in the address."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        _Redirects(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def _chunks(response: Any, size: int | None, max_seconds: float, max_bytes: int) -> Iterator[bytes]:
    start, received = time.monotonic(), 0
    # read1 returns what has arrived: a server that sends byte by byte must not hold the clock up
    while chunk := response.read1(CHUNK_BYTES):
        received += len(chunk)
        if received > max_bytes:
            raise DownloadError(f'it is larger than the limit of {max_bytes} bytes')
        if time.monotonic() - start > max_seconds:
            raise DownloadError(f'it did not arrive within {max_seconds:g} s ({received} bytes came)')
        yield chunk
    if received == 0:
        raise DownloadError('the server sent an empty file')
    if size is not None and received != size:
        raise DownloadError(f'the answer broke off after {received} of {size} bytes')
