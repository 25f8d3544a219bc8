"""A checksum at the end of a deployed file, which shows damage before a runtime reads it.

Runtimes trust what they load: a changed byte may crash the process, or change the answers without a word. The checksum
guards against accidents. It is no signature: who changes a file on purpose can seal it again, as :func:`seal` does.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from emo_mm.errors import UserError
from emo_mm.files import write_bytes

_NAME = b'emo_mm_sha256'
_DIGITS = 64


def seal(path: str | Path) -> None:
    """Write the checksum of a deployed file to its end, in the place of one that is there.

    It stands in an ONNX file as one more entry of the metadata, and in OpenVINO's ``.xml`` as a comment; both stay
    valid for all who read them. That of the ``.xml`` counts the weights in the ``.bin`` beside it too.

    Args:
        path: ``.onnx``, or ``.xml`` of OpenVINO.

    Raises:
        UserError: If it cannot be read or written.
    """
    path = Path(path)
    try:
        content, _ = _split(path.read_bytes(), path.suffix)
        write_bytes(path.resolve(), content + _entry(_digest(content, path), path.suffix))
    except OSError as error:
        raise UserError(f'{path}: cannot be sealed: {error.strerror}') from None


def check_seal(path: Path) -> None:
    """Check that a deployed file is as it was sealed.

    Raises:
        UserError: If it cannot be read, has no checksum at its end, or another one than it should.
    """
    try:
        content, found = _split(path.read_bytes(), path.suffix)
        if found is None:
            raise UserError(
                f'{path}: is cut off, or was not written by emo-mm export: its checksum is missing; export it again, '
                f'or vouch for it: python -c "from emo_mm.runtime.seal import seal; seal(\'{path}\')"'
            )
        if found != _digest(content, path):
            raise UserError(f'{path}: is damaged: it does not match its checksum; export or copy it again')
    except OSError as error:
        raise UserError(f'{error.filename or path}: cannot be read: {error.strerror}') from None


def _split(data: bytes, suffix: str) -> tuple[bytes, str | None]:
    """Return the content before the checksum, and the checksum; None if there is none."""
    before, after = _frame(suffix)
    length = len(before) + _DIGITS + len(after)
    content, entry = data[:-length], data[-length:]
    if not (len(data) > length and entry.startswith(before) and entry.endswith(after)):
        return data, None
    return content, entry[len(before) : len(before) + _DIGITS].decode('ascii', 'replace')


def _entry(digest: str, suffix: str) -> bytes:
    before, after = _frame(suffix)
    return before + digest.encode() + after


def _frame(suffix: str) -> tuple[bytes, bytes]:
    """Return what stands before and after the digits."""
    if suffix.lower() == '.xml':
        return b'\n<!-- ' + _NAME + b' ', b' -->\n'
    # Protocol buffers, whose messages may be continued at their end. Field 14 of a model, metadata_props, is a list of
    # messages with a key (field 1) and a value (field 2); a field is its number * 8 + 2, its length and its bytes.
    key = b'\x0a' + bytes([len(_NAME)]) + _NAME
    value = b'\x12' + bytes([_DIGITS])
    return b'\x72' + bytes([len(key) + len(value) + _DIGITS]) + key + value, b''


def _digest(content: bytes, path: Path) -> str:
    """Return the hash of a content and of the weights that lie beside it."""
    digest = hashlib.sha256(content)
    if path.suffix.lower() == '.xml':
        with path.with_suffix('.bin').open('rb') as weights:
            while block := weights.read(2**20):
                digest.update(block)
    return digest.hexdigest()
