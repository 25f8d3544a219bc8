#!/usr/bin/env python
"""Export models in all formats, check and time them, and write the table into docs/deployment.md."""

from __future__ import annotations

import argparse
import json
import platform
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from detectors import spread_scores
from PIL import Image
from torch import nn

from emo_mm.benchmark import reference
from emo_mm.config.build import build_from_config
from emo_mm.config.names import get_config
from emo_mm.config.view import task_of
from emo_mm.errors import UserError, first_line
from emo_mm.export.check import Found, Run, check, images_in, input_of
from emo_mm.export.formats import FORMATS
from emo_mm.export.graph import Graph
from emo_mm.export.job import Job
from emo_mm.export.options import ExportOptions
from emo_mm.export.run import check_options, open_checked, prepare, write
from emo_mm.models.layers import LayerScale
from emo_mm.predict.loading import LoadedModel
from emo_mm.runtime.metadata import Metadata

ROOT = Path(__file__).resolve().parents[2]
MODELS = (
    'ssdlite_emo_2m_coco',
    'deeplabv3_emo_1m_ade20k',
    'pspnet_emo_1m_ade20k',
    'emo_1m_imagenet',
    'ssdlite_emov2_1m_coco',
    'deeplabv3_emov2_1m_ade20k',
)
BEGIN, END = '<!-- matrix: written by tools/documents/export_matrix.py -->', '<!-- end of matrix -->'
PLAIN, EAGER = 'PyTorch, plain', 'PyTorch, ours'
_LEAST_SECONDS = 0.2  # of a turn: small batches are over too soon to be timed once
_MOST_REPEATS = 16
_MOST_PIXELS = 2**21  # of a batch: logits of 150 classes for each take 1.3 GB, in every runtime
_LOGIT_SPREAD = 2.0  # standard deviation


def main() -> int:
    """Run the measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--models', nargs='+', metavar='NAME', help='configs; those of the document without')
    parser.add_argument('--ways', nargs='+', metavar='FORMAT[,PRECISION]', help='all that are installed without')
    parser.add_argument('--batch', nargs='+', type=int, default=[1, 16], metavar='N')
    parser.add_argument('--rounds', type=int, default=3, metavar='N')
    parser.add_argument('--threads', type=int, default=2, metavar='N')
    parser.add_argument('--images', metavar='DIR', help='photographs to check and calibrate with')
    parser.add_argument(
        '--keep', type=Path, metavar='DIR', help='keep the files there, and make only those that are not'
    )
    parser.add_argument('--kept-only', action='store_true', help='with --keep: only time the files that are there')
    parser.add_argument('--untimed', action='store_true', help='only make and check the files, and print the table')
    parser.add_argument('--out', type=Path, default=ROOT / 'docs' / 'deployment.md', metavar='FILE')
    args = parser.parse_args()

    ways = [(way.split(',')[0], [*way.split(','), 'float32'][1]) for way in args.ways or ()]
    batches = [] if args.untimed else args.batch
    plan = Plan(
        models=args.models or MODELS,
        ways=ways or None,
        batches=batches,
        rounds=args.rounds,
        threads=args.threads,
        images=args.images,
        keep=args.keep,
        make=not args.kept_only,
    )
    try:
        rows = matrix(plain, plan)
        text = table(rows, batches, args.threads)
        print(text)
        if not args.untimed:
            write_into(args.out, text)
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    return 0


def plain(model: Any) -> Any:
    """Return a copy of a model whose backbone is the plain formulation that the tests compare with."""

    class Plain(nn.Module):
        def __init__(self, backbone: Any) -> None:
            super().__init__()
            self.tensors = {backbone.names.official_key(key): value for key, value in backbone.state_dict().items()}
            self.name, self.window = f'{type(backbone).__name__.lower()}_{backbone.arch}', backbone.window_sizes[-1]
            self.out_indices = backbone.out_indices

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            """Return the maps of ``out_indices``."""
            maps = reference.features(self.name, self.tensors, x, self.window)
            return tuple(maps[index] for index in self.out_indices)

    copy = deepcopy(model)
    copy.backbone = Plain(model.backbone)
    return copy


@dataclass
class Row:
    """A model in a format.

    Attributes:
        model: Name of the config.
        way: Format and precision.
        bytes: Of the file.
        found: What the check found.
        fault: Why there is none.
        metadata: Description of the file, as JSON; None without a file.
        seconds: Median time of a batch, by its size.
        ratio: Median over the rounds of the plain network's time to this one's, by batch size.
    """

    model: str
    way: str
    bytes: int = 0
    found: Found | None = None
    fault: str | None = None
    metadata: str | None = None
    seconds: dict[int, float] = field(default_factory=dict)
    ratio: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What to measure, and how.

    Attributes:
        models: Names of configs.
        ways: Formats and precisions; all that are installed if None.
        batches: Numbers of images at once to time; with none, files are made and checked only.
        rounds: Turns that are timed, after one that is not; in each, all ways take turns.
        threads: Threads of PyTorch and of the runtimes.
        images: Folder of photographs to check and calibrate with; random images if None.
        keep: Folder that keeps the files and what their checks found; those that are there are not made again. None
            forgets them.
        make: Whether to make files that the folder lacks; otherwise the table is of those that it has.
    """

    models: Sequence[str] = MODELS
    ways: Sequence[tuple[str, str]] | None = None
    batches: Sequence[int] = (1, 16)
    rounds: int = 3
    threads: int = 2
    images: str | None = None
    keep: Path | None = None
    make: bool = True


def matrix(plain: Callable[[nn.Module], nn.Module], plan: Plan) -> list[Row]:
    """Export models with random weights in all ways, check and time them.

    Args:
        plain: Returns a copy of a model with the plain formulation of its backbone, whose eager speed is 1.
        plan: What to measure.

    Raises:
        UserError: If a config or a folder cannot be used.
    """
    torch.set_num_threads(plan.threads)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in plan.models:
            print(f'{name} ...', flush=True)
            place = (plan.keep or Path(folder)) / name
            place.mkdir(parents=True, exist_ok=True)
            loaded = random_model(name, place)
            # One job for all formats of an input: tracing takes longer than anything else.
            jobs = cache(partial(_job, loaded, plan.images))
            ways = [way for way in plan.ways or installed_ways() if plan.make or _note(place, way).is_file()]
            made = [_made(name, way, jobs, plan, place) for way in ways]
            rows += [Row(name, PLAIN), Row(name, EAGER), *made]
            if plan.batches:
                _time_model(rows[-len(made) - 2 :], plain(loaded.model), jobs('batch', True), plan, place)
    return rows


def installed_ways() -> list[tuple[str, str]]:
    """Return the formats that can run here, each with its precisions."""
    found = []
    for name, kind in FORMATS.items():
        for precision in ('float32', *kind.precisions):
            try:
                check_options(ExportOptions('', format=name, half=precision == 'half', int8=precision == 'int8'))
            except UserError:
                continue
            if kind.runtime.session:
                found.append((name, precision))
    return found


def table(rows: Sequence[Row], batches: Sequence[int], threads: int) -> str:
    """Return the rows as Markdown."""
    columns = ''.join(f' ms, batch {n} | × plain, batch {n} |' for n in batches)
    lines = [
        f'{platform.processor() or platform.machine()}, {threads} threads, torch {torch.__version__}, random weights.',
        '',
        f'| model | format | largest error | agreement | MB |{columns}',
        f'|---|---|---:|---:|---:|{"---:|" * 2 * len(batches)}',
    ]
    for row in rows:
        error = f'{row.found.error:.1g} | {row.found.agreement:.2%}' if row.found else f'{row.fault or "0"} |'
        size = f'{row.bytes / 1e6:.1f}' if row.bytes else ''
        times = ''.join(
            f' {row.seconds[n] * 1e3:.1f} | {row.ratio[n]:.2f} |' if n in row.seconds else ' | |' for n in batches
        )
        lines.append(f'| {row.model} | {row.way} | {error} | {size} |{times}')
    return '\n'.join(lines)


def write_into(path: Path, text: str) -> None:
    """Replace what stands between the markers of a document.

    Raises:
        UserError: If it has no markers.
    """
    page = path.read_text(encoding='utf-8')
    pattern = re.compile(f'{re.escape(BEGIN)}.*?{re.escape(END)}', re.DOTALL)
    if not pattern.search(page):
        raise UserError(f'{path}: lacks the lines {BEGIN} and {END}')
    path.write_text(pattern.sub(lambda _: f'{BEGIN}\n\n{text}\n\n{END}', page), encoding='utf-8')


def random_model(name: str, folder: Path) -> LoadedModel:
    """Return a model with random weights whose scores spread, as those of a trained one do.

    Args:
        name: Of a config.
        folder: For images to scale the scores by.
    """
    cfg = get_config(name)
    torch.manual_seed(0)
    model = build_from_config(cfg)
    for module in model.modules():
        # As they start, these hide what a file gets wrong: the padding of windows, and whole blocks.
        if isinstance(module, nn.LayerNorm) and module.elementwise_affine:
            nn.init.normal_(module.bias)
        elif isinstance(module, LayerScale):
            nn.init.uniform_(module.gamma, 0.5, 1.5)
    if task_of(cfg).finds_boxes:
        paths = [str(folder / f'{index}.png') for index in range(4)]
        for path, pixels in zip(paths, images_in(None, len(paths)), strict=True):
            Image.fromarray(pixels).save(path)
        spread_scores(model, cfg, paths)
    loaded = LoadedModel(name, cfg, model, {}, '')
    if not task_of(cfg).finds_boxes:
        _spread_logits(loaded)
    return loaded


@torch.inference_mode()
def _spread_logits(loaded: LoadedModel) -> None:
    """Scale the last layer of a segmenter or classifier."""
    _, reference, size = _job(loaded, None, None)
    model: Any = loaded.model
    last = model.decode_head.conv_seg if hasattr(model, 'decode_head') else model.head.fc
    images = torch.from_numpy(input_of(images_in(None, 4), size, reference.metadata))
    factor = _LOGIT_SPREAD / model(images, mode='tensor').std()
    last.weight.mul_(factor)
    last.bias.mul_(factor)


Prepared = tuple[Job, Graph, tuple[int, int]]


def _job(loaded: LoadedModel, images: str | None, dynamic: str | None, argmax: bool = True) -> Prepared:
    """Return what all exporters get that leave the same axes open; calibration for int8 included."""
    logits = 'logits' in task_of(loaded.cfg).output_kinds and not argmax
    return prepare(loaded, ExportOptions(loaded.name, dynamic=dynamic, int8=True, logits=logits, images=images))


def _made(
    model: str, way: tuple[str, str], jobs: Callable[[str | None, bool], Prepared], plan: Plan, folder: Path
) -> Row:
    """Write a file and check it, unless a folder has it already."""
    name, precision = way
    row = Row(model, name + (f', {precision}' if precision != 'float32' else ''))
    path = _path(folder, way)
    note = _note(folder, way)
    if note.is_file():
        kept: dict[str, Any] = json.loads(note.read_text(encoding='utf-8'))
        found = kept.pop('found')
        return replace(row, **kept, found=found and Found(**found))
    started = time.perf_counter()
    try:
        kind = FORMATS[name]
        job, reference, size = jobs('batch' if 'batch' in kind.axes else None, kind.takes_argmax)
        write(kind, replace(job, precision=precision), path)
        row.bytes, row.metadata, found = kind.size(path), job.metadata.to_json(), Found()
        run = open_checked(path, job.metadata, plan.threads, job.metadata.input.batch)
        for _, _, case in check(run, reference, images_in(plan.images, 4), size):
            found.add(case)
        row.found = found
    except Exception as error:  # of a runtime: the table goes on, and tells
        row.fault = f'fails: {first_line(error, with_type=True)[:120]}'.replace(f'{folder}/', '')
    print(f'  {row.way}: {row.found or row.fault} ({time.perf_counter() - started:.0f} s)', flush=True)
    kept = {key: value for key, value in asdict(row).items() if key in ('bytes', 'found', 'fault', 'metadata')}
    note.write_text(json.dumps(kept), encoding='utf-8')
    return row


def _time_model(rows: Sequence[Row], plain: nn.Module, prepared: Prepared, plan: Plan, folder: Path) -> None:
    """Time a model in PyTorch, the first two rows, and its files, the others."""
    _, reference, size = prepared
    eager = {PLAIN: _eager(Graph(plain, reference.metadata)), EAGER: _eager(reference)}
    for batch in plan.batches:
        if batch * size[0] * size[1] > _MOST_PIXELS:
            continue
        ready = {way: (run, input_of(images_in(None, batch), size, reference.metadata)) for way, run in eager.items()}
        for row in rows[2:]:
            metadata = Metadata.from_json(row.metadata, row.way) if row.found and row.metadata else None
            if metadata is None or metadata.input.batch not in (None, batch):
                continue
            name, _, precision = row.way.partition(', ')
            run = open_checked(_path(folder, (name, precision or 'float32')), metadata, plan.threads, batch)
            ready[row.way] = run, input_of(images_in(None, batch), size, metadata)
        _time(rows, ready, batch, plan.rounds)


def _time(rows: Sequence[Row], ready: dict[str, tuple[Run, np.ndarray]], batch: int, rounds: int) -> None:
    repeats, seconds = {}, dict[str, list[float]]()
    for way, (run, values) in ready.items():
        run(values)
        start = time.perf_counter()
        run(values)
        repeats[way] = max(1, min(_MOST_REPEATS, int(_LEAST_SECONDS / (time.perf_counter() - start))))
        seconds[way] = []
    for _ in range(rounds):
        for way, (run, values) in ready.items():
            run(values)  # what another runtime left in the caches, and its waiting threads, are not this one's
            start = time.perf_counter()
            for _ in range(repeats[way]):
                run(values)
            seconds[way].append((time.perf_counter() - start) / repeats[way])
    for row in rows:
        own = seconds.get(row.way)
        if own:
            row.seconds[batch] = median(own)
            row.ratio[batch] = median(other / mine for other, mine in zip(seconds[PLAIN], own, strict=True))


def _note(folder: Path, way: tuple[str, str]) -> Path:
    """Return where what was found of a file is kept."""
    return folder / f'{way[0]}_{way[1]}.row.json'


def _path(folder: Path, way: tuple[str, str]) -> Path:
    return folder / f'{way[0]}_{way[1]}{FORMATS[way[0]].suffix}'


def _eager(graph: Graph) -> Run:
    def run(batch: np.ndarray) -> list[np.ndarray]:
        with torch.inference_mode():
            return [output.numpy() for output in graph(torch.from_numpy(batch))]

    return run


if __name__ == '__main__':
    sys.exit(main())
