"""Damage to files, at random and repeatable: each function draws from the generator that it is given."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

Mutator = Callable[[bytes, Random], bytes]

# Numbers at which fields of lengths and sizes go wrong.
ODD_SIZES = (
    0,
    1,
    2,
    7,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    2**63 - 1,
    2**64 - 1,
)


# -- Bytes of any file -----------------------------------------------------------------------------------------------


def flip_bits(data: bytes, rng: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def overwrite_bytes(data: bytes, rng: Random) -> bytes:
    start, end = _block(data, rng)
    return data[:start] + rng.randbytes(end - start) + data[end:]


def fill_block(data: bytes, rng: Random) -> bytes:
    start, end = _block(data, rng)
    return data[:start] + bytes([rng.choice((0, 0xFF, 0x20))]) * (end - start) + data[end:]


def cut_off(data: bytes, rng: Random) -> bytes:
    return data[: rng.randrange(len(data))]


def lose_beginning(data: bytes, rng: Random) -> bytes:
    return data[rng.randrange(1, len(data)) :]


def append_garbage(data: bytes, rng: Random) -> bytes:
    return data + rng.randbytes(rng.choice((1, 100, 5000)))


def drop_block(data: bytes, rng: Random) -> bytes:
    start, end = _block(data, rng)
    return data[:start] + data[end:]


def repeat_block(data: bytes, rng: Random) -> bytes:
    start, end = _block(data, rng)
    return data[:end] + data[start:end] * rng.choice((1, 1, 3)) + data[end:]


def splice_blocks(data: bytes, rng: Random) -> bytes:
    """Put a block over another place of the same file."""
    start, end = _block(data, rng)
    place = rng.randrange(len(data))
    return data[:place] + data[start:end] + data[place + end - start :]


def change_size_field(data: bytes, rng: Random) -> bytes:
    """Write an odd number where a length or a size may be."""
    number, width = rng.choice(ODD_SIZES), rng.choice((1, 2, 4, 8))
    field = (number % 256**width).to_bytes(width, rng.choice(('little', 'big')))
    # fields of headers and of directories are more often near the ends
    place = rng.choice(
        (rng.randrange(len(data)), rng.randrange(min(len(data), 128)), max(0, len(data) - rng.randrange(1, 128)))
    )
    return data[:place] + field + data[place + width :]


BYTES: tuple[Mutator, ...] = (
    flip_bits,
    flip_bits,
    overwrite_bytes,
    fill_block,
    cut_off,
    lose_beginning,
    append_garbage,
    drop_block,
    repeat_block,
    splice_blocks,
    change_size_field,
    change_size_field,
)


def damage(data: bytes, rng: Random) -> bytes:
    """Change bytes without regard to what they mean, once or a few times."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        data = rng.choice(BYTES)(data, rng) if data else data
    return data


def _block(data: bytes, rng: Random) -> tuple[int, int]:
    start = rng.randrange(len(data))
    return start, min(len(data), start + rng.choice((1, 2, 4, 16, 256, 4096)))


# -- JPEG and PNG ----------------------------------------------------------------------------------------------------


def change_jpeg_segment(data: bytes, rng: Random) -> bytes:
    """Change the length, the kind or the content of a header of a JPEG file, or lose or repeat it."""
    starts = []
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF and data[place + 1] != 0xDA:
        starts.append(place)
        place += 2 + int.from_bytes(data[place + 2 : place + 4], 'big')
    start = rng.choice([*starts, place])
    length = int.from_bytes(data[start + 2 : start + 4], 'big')
    end = start + 2 + length
    kind = rng.randrange(5)
    if kind == 0:
        return (
            data[: start + 2]
            + rng.choice((0, 1, 2, length - 1, length + 1, 0xFFFF)).to_bytes(2, 'big')
            + data[start + 4 :]
        )
    if kind == 1:
        return data[: start + 1] + bytes([rng.randrange(256)]) + data[start + 2 :]
    if kind == 2:
        body = damage(data[start + 4 : end], rng)[: length - 2].ljust(length - 2, b'\0') if length > 2 else b''
        return data[: start + 4] + body + data[end:]
    return data[:start] + data[end:] if kind == 3 else data[:end] + data[start:end] + data[end:]


def change_jpeg_size(data: bytes, rng: Random) -> bytes:
    """Claim another height or width."""
    for marker in (b'\xff\xc0', b'\xff\xc2'):
        place = data.find(marker)
        if place > 0:
            side = rng.choice((0, 1, 65535, 20000, rng.randrange(1, 400)))
            place += 5 + 2 * rng.randrange(2)
            return data[:place] + side.to_bytes(2, 'big') + data[place + 2 :]
    return flip_bits(data, rng)


def change_png_chunk(data: bytes, rng: Random) -> bytes:
    """Change, lose, repeat or move a chunk of a PNG file; checksums fit afterwards."""
    chunks = png_chunks(data)
    index = rng.randrange(len(chunks))
    name, body = chunks[index]
    kind = rng.randrange(5)
    if kind == 0:
        chunks[index] = (name, damage(body, rng)) if body else (name, rng.randbytes(4))
    elif kind == 1:
        chunks[index] = (bytes(rng.choice(b'ABCDTIHRENabcdtihren') for _ in range(4)), body)
    elif kind == 2:
        del chunks[index]
    elif kind == 3:
        chunks.insert(rng.randrange(len(chunks) + 1), (name, body))
    else:
        chunks.insert(rng.randrange(len(chunks)), chunks.pop(index))
    return b'\x89PNG\r\n\x1a\n' + b''.join(png_chunk(name, body) for name, body in chunks)


def change_png_header(data: bytes, rng: Random) -> bytes:
    """Claim another size, depth or kind of pixels, with a fitting checksum."""
    chunks = png_chunks(data)
    width, height, *rest = struct.unpack('>IIBBBBB', chunks[0][1])
    field = rng.randrange(7)
    values = [width, height, *rest]
    values[field] = rng.choice((0, 1, 65_000, 2**31 - 1, rng.randrange(1, 300))) if field < 2 else rng.randrange(17)
    chunks[0] = (b'IHDR', struct.pack('>IIBBBBB', *values))
    return b'\x89PNG\r\n\x1a\n' + b''.join(png_chunk(name, body) for name, body in chunks)


def png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    chunks, place = [], 8
    while place + 12 <= len(data):
        length = int.from_bytes(data[place : place + 4], 'big')
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    return chunks


def png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack('>I', len(body)) + name + body + struct.pack('>I', zlib.crc32(name + body))


# -- JSON ------------------------------------------------------------------------------------------------------------

ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**31, 2**63, -(2**63), 10**400, 1.5, -0.0, 1e308, 1e-320, float('nan'), float('inf'),
    float('-inf'), '', 'x', '1', '../../x.jpg', '/etc/passwd', 'nul\0byte.jpg', '\ud800', 'ä' * 300, 'x' * 5000, [], {},
    [1], [1, 2, 3, 4], [[1]], {'a': 1}, [None], ['x'] * 4, [float('nan')] * 4, [1e308] * 4, [-5, -5, 1e6, 1e6],
)  # fmt: skip


def change_json(data: bytes, rng: Random) -> bytes:
    """Change the structure of a JSON text: values, types, keys, lengths of lists, nesting, repeated entries."""
    content = json.loads(data)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        content = _change_value(content, rng)
    text = json.dumps(content)
    return rng.choice(_TEXT_CHANGES)(text, rng).encode('utf-8', 'surrogatepass')


def _change_value(content: Any, rng: Random) -> Any:
    """Change one place of parsed JSON, chosen among all of them."""
    places: list[tuple[Any, Any]] = []

    def collect(node: Any) -> None:
        items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, value in items:
            places.append((node, key))
            collect(value)

    collect(content)
    if not places or rng.random() < 0.02:
        return rng.choice(ODD_VALUES)
    node, key = rng.choice(places)
    kind = rng.randrange(8)
    if kind == 0:
        del node[key]
    elif kind == 1 and isinstance(node, dict):
        node[rng.choice((str(key) + 's', str(key).upper(), str(key)[:-1], ''))] = node.pop(key)
    elif kind == 2 and isinstance(node, list):
        node.insert(rng.randrange(len(node) + 1), node[key])
    elif kind == 3:
        node[key] = [node[key]]
    elif kind == 4 and isinstance(node[key], (int, float)):
        node[key] = rng.choice(
            (str(node[key]), float(node[key]), -node[key], node[key] * 10**9, node[key] + 1, bool(node[key]))
        )
    elif kind == 5:  # the value of another place
        other, name = rng.choice(places)
        try:
            node[key] = json.loads(json.dumps(other[name]))
        except (LookupError, TypeError, ValueError):
            node[key] = None
    else:
        node[key] = rng.choice(ODD_VALUES)
    return content


def _as_it_is(text: str, rng: Random) -> str:
    return text


def _nested(text: str, rng: Random) -> str:
    depth = rng.choice((10, 2000, 200_000))
    return '[' * depth + text + ']' * depth


def _deep_inside(text: str, rng: Random) -> str:
    place = text.find('[', rng.randrange(len(text)))
    return text[: place + 1] + '[' * 50_000 + ']' * 50_000 + ',' + text[place + 1 :]


def _with_key_twice(text: str, rng: Random) -> str:
    return text.replace('{', '{"images": [], ' if rng.random() < 0.5 else '{"id": 1, ', 1)


def _with_mark(text: str, rng: Random) -> str:
    return '\ufeff' + text


_TEXT_CHANGES = (_as_it_is,) * 12 + (_nested, _deep_inside, _with_key_twice, _with_mark)


# -- Checkpoints, which are zip files of a pickle and of tensors ---------------------------------------------------


def change_zip_entry(data: bytes, rng: Random) -> bytes:
    """Change, lose, rename, repeat or exchange entries; checksums fit afterwards."""
    entries = zip_entries(data)
    index = rng.randrange(len(entries))
    name, body = entries[index]
    kind = rng.randrange(6)
    if kind == 0:
        entries[index] = (name, damage(body, rng))
    elif kind == 1:
        del entries[index]
    elif kind == 2:
        entries[index] = (
            rng.choice((name + 'x', name.upper(), '../../' + name, '/' + name, 'x' * 300, name[:-1])),
            body,
        )
    elif kind == 3:
        entries.append((name, damage(body, rng)))
    elif kind == 4:
        other = rng.randrange(len(entries))
        entries[index], entries[other] = (name, entries[other][1]), (entries[other][0], body)
    else:
        entries[index] = (name, body[: len(body) // 2] if rng.random() < 0.5 else body * 3)
    return zip_of(entries, zipfile.ZIP_DEFLATED if rng.random() < 0.2 else zipfile.ZIP_STORED)


def change_pickle(data: bytes, rng: Random) -> bytes:
    """Change the pickle of a checkpoint, with a fitting checksum."""
    entries = zip_entries(data)
    return zip_of([(name, damage(body, rng) if name.endswith('data.pkl') else body) for name, body in entries])


def zip_entries(data: bytes) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        return [(info.filename, file.read(info)) for info in file.infolist()]


def zip_of(entries: Sequence[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    import warnings

    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, 'w', method) as file:
        warnings.simplefilter('ignore')  # of names that come twice
        for name, body in entries:
            file.writestr(zipfile.ZipInfo(name), body, method)
    return buffer.getvalue()
