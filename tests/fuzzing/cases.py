"""Damaged files by number: the same number gives the same file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from fuzzing import mutators, seeds
from fuzzing.mutators import Mutator
from fuzzing.pool import Reader

# What a file may do: be answered rightly, or be refused in a clear line.
ALLOWED = ('answered', 'refused')


@dataclass
class Tally:
    """What became of the files of a kind.

    Attributes:
        kind: The kind.
        counts: Files by what became of them.
        faults: Number, outcome and message of each that did what no file may do.
    """

    kind: str
    counts: Counter[str] = field(default_factory=Counter)
    faults: list[tuple[int, str, str]] = field(default_factory=list)

    def __str__(self) -> str:
        """Return the counts in a line."""
        counts = ', '.join(f'{count} {found}' for found, count in sorted(self.counts.items()))
        return f'{self.kind}: {self.counts.total()} damaged files: {counts}'


def try_files(kind: str, numbers: range, folder: Path, keep: Path | None = None) -> Tally:
    """Read damaged files in a process of their own.

    Args:
        kind: A key of ``MAKERS``.
        numbers: Which ones.
        folder: Where they are written.
        keep: Where files are kept that did what no file may do.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sound = list(_sound_files(kind, folder / 'sound'))
    tally = Tally(kind)
    with Reader(kind, folder) as reader:
        for number in numbers:
            name, content = damaged(kind, sound, number)
            path = folder / name
            path.write_bytes(content)
            found, said = reader.read(path)
            tally.counts[found] += 1
            if found not in ALLOWED:
                tally.faults.append((number, found, said))
                if keep is not None:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / name).write_bytes(content)
            path.unlink()
    return tally


def damaged(kind: str, sound: list[tuple[str, bytes]], number: int) -> tuple[str, bytes]:
    """Return name and content of a damaged file.

    The name begins with ``bytes`` where bytes were changed blindly, with ``shape`` where checksums were made to fit.
    """
    rng = Random(f'{kind} {number}')
    suffix, content = rng.choice(sound)
    if rng.random() < 0.5:
        return f'bytes{number}{suffix}', mutators.damage(content, rng)
    return f'shape{number}{suffix}', rng.choice(SHAPES[kind, suffix])(content, rng)


def change_description(data: bytes, rng: Random) -> bytes:
    """Change the description of an ONNX file, and seal it again."""
    import tempfile

    import onnx

    from emo_mm.runtime.metadata import KEY
    from emo_mm.runtime.seal import seal

    model = onnx.load_from_string(data)
    described = {entry.key: entry.value for entry in model.metadata_props}
    if rng.random() < 0.5:
        text = mutators.change_json(described[KEY].encode(), rng).decode('utf-8', 'ignore')
    else:
        content = json.loads(described[KEY])
        for _ in range(rng.choice((1, 1, 2, 3))):
            _set_plausible(content, rng)
        text = json.dumps(content)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {KEY: text} if rng.random() < 0.97 else {})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'model.onnx'
        onnx.save(model, path)
        seal(path)
        return path.read_bytes()


def _set_plausible(content: dict, rng: Random) -> None:
    """Give a part of a description a value that may stand there, and that the graph may not keep to."""
    classes = [f'class {i}' for i in range(rng.choice((1, 3, 7, 300)))]
    side, other = (rng.choice((1, 2, 31, 64, 640, 16384)) for _ in range(2))
    changes = (
        ('classes', classes, None),
        ('classes', ['\x1b[31mred', 'x' * 10_000], None),
        ('input', 'layout', rng.choice(('NCHW', 'NHWC'))),
        ('input', 'dtype', 'float32'),
        ('input', 'normalized_inside', True),
        ('input', 'batch', rng.choice((None, 1, 3, 4096))),
        ('input', 'height', rng.choice((None, side))),
        ('input', 'width', rng.choice((None, side))),
        ('preprocessing', 'scale', [side, other]),
        ('preprocessing', 'resize', rng.choice(('keep_ratio', 'fit', 'none', 'stretch', 'short_edge'))),
        ('preprocessing', 'interpolation', rng.choice(('nearest', 'bicubic', 'area', 'lanczos'))),
        ('preprocessing', 'backend', 'pillow'),
        ('preprocessing', 'crop', [side, other]),
        ('preprocessing', 'pad_size', [side, other]),
        ('preprocessing', 'pad_divisor', rng.choice((2, 32, 1024))),
        ('preprocessing', 'pad_value', rng.choice((1e6, -1e6))),
        ('preprocessing', 'mean', [1e6, -1e6, 0]),
        ('preprocessing', 'std', [1e-5, 1, 1e6]),
        ('output', 'levels', rng.choice((None, [8], [1], [6, 3], [10_000_000], [1] * 8))),
        ('output', 'names', content['output']['names'][::-1]),
        ('output', 'names', content['output']['names'] + ['levels']),
        ('output', 'kind', rng.choice(('boxes', 'detections', 'labels', 'logits', 'probabilities'))),
        ('nms', 'nms_pre', rng.choice((None, 1, 10_000_000))),
        ('nms', 'max_per_image', rng.choice((1, 10_000_000))),
        ('nms', 'min_size', rng.choice((-1e300, 1e300))),
        ('nms', 'score_threshold', rng.choice((0, 1))),
    )  # fmt: skip
    part, key, value = rng.choice(changes)
    if part == 'classes':
        content['classes'], content['palette'] = key, []
    elif content[part] is not None:
        content[part][key] = value


def change_safetensors_header(data: bytes, rng: Random) -> bytes:
    """Change the JSON header of a safetensors file, whose length fits afterwards."""
    length = int.from_bytes(data[:8], 'little')
    header = mutators.change_json(data[8 : 8 + length], rng)
    if rng.random() < 0.3:  # the description within
        content = json.loads(data[8 : 8 + length])
        content['__metadata__']['emo_mm'] = mutators.change_json(
            content['__metadata__']['emo_mm'].encode(), rng
        ).decode('utf-8', 'ignore')
        header = json.dumps(content).encode()
    return len(header).to_bytes(8, 'little') + header + data[8 + length :]


_ZIP = (mutators.change_zip_entry, mutators.change_pickle, mutators.change_pickle)
SHAPES: dict[tuple[str, str], tuple[Mutator, ...]] = {
    ('jpeg', '.jpg'): (mutators.change_jpeg_segment, mutators.change_jpeg_segment, mutators.change_jpeg_size),
    ('png', '.png'): (mutators.change_png_chunk, mutators.change_png_chunk, mutators.change_png_header),
    ('coco', '.json'): (mutators.change_json,),
    ('checkpoint', '.pth'): _ZIP,
    ('checkpoint', '.safetensors'): (change_safetensors_header,),
    ('onnx', '.onnx'): (change_description,),
}
KINDS = ('jpeg', 'png', 'coco', 'checkpoint', 'onnx')


def _sound_files(kind: str, folder: Path) -> Iterator[tuple[str, bytes]]:
    folder.mkdir(exist_ok=True)
    if kind == 'jpeg':
        yield from (('.jpg', content) for content in seeds.jpeg_files())
    elif kind == 'png':
        yield from (('.png', content) for content in seeds.png_files())
    elif kind == 'coco':
        # most changes are of the structure: blind ones make a text that is no JSON
        yield from (('.json', content) for content in seeds.coco_files())
    elif kind == 'checkpoint':
        for content in seeds.checkpoint_files(folder):
            yield '.pth' if content.startswith(b'PK') else '.safetensors', content
    else:
        yield from (('.onnx', content) for content in seeds.onnx_files(folder))
