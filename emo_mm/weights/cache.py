"""The user's cache of weights: its place, and how its files are recognised."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any

from emo_mm.weights.registry import PUBLISHED, PublishedWeights


def cache_dir() -> Path:
    """Return the folder of downloads, in ``$EMO_MM_CACHE``, ``$XDG_CACHE_HOME/emo_mm`` or ``~/.cache/emo_mm``."""
    if own := os.environ.get('EMO_MM_CACHE'):
        return Path(own).expanduser().absolute() / 'weights'
    base = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
    return Path(base).expanduser().absolute() / 'emo_mm' / 'weights'


def git_blob_sha1(path: Path) -> str:
    """Return the id that git gives to the content of a file."""
    return _digest(hashlib.sha1(b'blob %d\0' % path.stat().st_size, usedforsecurity=False), path)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return _digest(hashlib.sha256(), path)


def _digest(digest: Any, path: Path) -> str:
    with path.open('rb') as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def identify(path: Path) -> PublishedWeights | None:
    """Return the published weights that a file is, whatever it is called; None if it is none of them."""
    blob = git_blob_sha1(path)
    return next((row for row in PUBLISHED.values() if row.git_blob_sha1 == blob), None)


def is_web_page(head: bytes) -> bool:
    """Return whether the first bytes of a file are those of HTML or XML: the usual wrong download."""
    return re.match(rb'(\xef\xbb\xbf)?\s*<(!doctype|!--|\?xml|html|head|body)', head, re.IGNORECASE) is not None
