"""A checksum of a deployed file, which shows damage before a runtime reads it.

Runtimes trust what they load: a changed byte may crash the process, or silently change the answers. The checksum
guards against accidents. It is no signature: who changes a file on purpose can seal it again, as :func:`seal` does.

It stands at the end of a file whose format has room for it, and otherwise in the sidecar ``<file>.json`` that describes
the file.
"""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

from emo_mm.errors import UserError
from emo_mm.files import write_bytes
from emo_mm.runtime.metadata import MAX_TEXT
from emo_mm.runtime.runtimes import runtime_of

_NAME = b'emo_mm_sha256'
_DIGITS = 64
SIDECAR_KEY = 'file_sha256'  # beside the keys of the description
_AGAIN = 'emo-mm seal {path}'
_CHANGED = (
    '{path}: is damaged, or was changed since it was exported: it does not match its checksum; export or copy it '
    'again, or, if a tool changed it on purpose, accept it as it is: ' + _AGAIN
)


def sidecar(path: Path) -> Path:
    """Return where the description of a file lies that cannot carry it."""
    return path.with_name(f'{path.name}.json')


def read_sidecar(path: Path) -> tuple[str | None, str | None]:
    """Return the description that lies beside a file, as JSON, and the checksum in it.

    Args:
        path: The deployed file.

    Returns:
        The text without the checksum, and the checksum; None for what is not there. A text that is no JSON object
        comes back as it is.
    """
    if not sidecar(path).is_file():
        return None, None
    with sidecar(path).open(encoding='utf-8', errors='replace') as file:
        text = file.read(MAX_TEXT + 1)  # more than can be used is refused by who reads it
    try:
        content = json.loads(text) if len(text) <= MAX_TEXT else None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or SIDECAR_KEY not in content:
        return text, None
    found = content.pop(SIDECAR_KEY)
    return json.dumps(content, separators=(',', ':')), str(found)


def seal(path: str | Path) -> None:
    """Write the checksum of a deployed file, in the place of one that is there.

    It stands in an ONNX file as one more entry of the metadata, and in OpenVINO's ``.xml`` as a comment; both stay
    valid for all who read them. For other files it stands in the sidecar. It counts the files that belong to this one,
    such as the weights in the ``.bin`` beside it, and the sidecar's description.

    Args:
        path: The file. Formats with checksums of their own, as ``.pt2``, are left as they are.

    Raises:
        UserError: If it cannot be read or written, or has no sidecar to write to.
    """
    path = Path(path)
    try:
        match _place(path):
            case 'end':
                plain, _ = _split(path.read_bytes(), path.suffix)
                write_bytes(path.resolve(), plain + _entry(_digest(path, plain), path.suffix))
            case 'sidecar':
                text, _ = read_sidecar(path)
                if text is None:
                    raise UserError(f'{path}: has no {sidecar(path).name} beside it, where its checksum would stand')
                content = {**json.loads(text), SIDECAR_KEY: _digest(path, path.read_bytes(), text)}
                write_bytes(sidecar(path), json.dumps(content, separators=(',', ':')).encode())
    except OSError as error:
        raise UserError(f'{path}: cannot be sealed: {error.strerror}') from None
    except (TypeError, ValueError) as error:
        raise UserError(f'{sidecar(path)}: is no description: {error}') from None


def check_seal(path: Path) -> None:
    """Check that a deployed file is as it was sealed.

    A sidecar without a checksum, as earlier versions wrote it, is taken with a warning, and so is a file that is whole
    and has none, as other programs write it.

    Raises:
        UserError: If it cannot be read, is cut off, or has another checksum than it should.
    """
    try:
        if _place(path) == 'sidecar':
            _check_sidecar(path)
            return
        content, found = _split(path.read_bytes(), path.suffix)
        if found is None:
            _check_unsealed(path, content)
        elif found != _digest(path, content):
            raise UserError(_CHANGED.format(path=path))
    except OSError as error:
        raise UserError(f'{error.filename or path}: cannot be read: {error.strerror}') from None


def _check_unsealed(path: Path, content: bytes) -> None:
    """Warn of a file without a checksum at its end.

    Raises:
        UserError: If it is cut off.
    """
    if not _is_whole(content, path.suffix):
        raise UserError(
            f'{path}: is cut off, or was not written by emo-mm export: its checksum is missing; export or copy it again'
        )
    logging.getLogger(__name__).warning(
        '%s: holds no checksum, as another program wrote it since it was exported, so damage cannot be detected; '
        'accept it as it is: %s',
        path,
        _AGAIN.format(path=path),
    )


def _is_whole(content: bytes, suffix: str) -> bool:
    """Tell whether a file without a checksum ends where its format says that it does."""
    if suffix.lower() == '.xml':
        return content.rstrip().endswith(b'</net>')  # OpenVINO's outermost element
    position = 0
    while position < len(content):
        field, position = _varint(content, position)
        kind = field & 7
        if field >> 3 == 0 or kind not in _LENGTHS:
            return False
        size = _LENGTHS[kind]
        if size is None:
            value, position = _varint(content, position)
            size = value if kind == _BYTES else 0
        position += size
    return position == len(content) > 0


# Kind of a field of a protocol buffer -> the length of its value; None where a number says it, or is it.
_BYTES = 2
_LENGTHS = {0: None, 1: 8, _BYTES: None, 5: 4}


def _varint(content: bytes, position: int) -> tuple[int, int]:
    """Return a number of a protocol buffer and the position behind it; 0, which no field has, where it is cut off."""
    value = shift = 0
    while position < len(content) and shift < 64:
        byte = content[position]
        position += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, position
    return 0, len(content) + 1


def _check_sidecar(path: Path) -> None:
    text, found = read_sidecar(path)
    if text is None:
        return  # who looks for the description tells
    if found is None:
        logging.getLogger(__name__).warning(
            '%s: %s holds no checksum, so damage cannot be detected; export it again, or accept it: %s',
            path,
            sidecar(path).name,
            _AGAIN.format(path=path),
        )
    elif found != _digest(path, path.read_bytes(), text):
        raise UserError(_CHANGED.format(path=path))


def _place(path: Path) -> str:
    """Return where the checksum of a file stands."""
    runtime = runtime_of(path)
    return 'own' if runtime is None else runtime.checksum


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


def _digest(path: Path, content: bytes, description: str = '') -> str:
    """Return the hash of a content, of the files that belong to it, and of a description as JSON."""
    digest = hashlib.sha256(content)
    runtime = runtime_of(path)
    for suffix in runtime.companions if runtime else ():
        with path.with_suffix(suffix).open('rb') as file:
            while block := file.read(2**20):
                digest.update(block)
    if description:
        digest.update(json.dumps(json.loads(description), sort_keys=True).encode())
    return digest.hexdigest()
