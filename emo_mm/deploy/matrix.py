"""Every model in every format: errors, agreement, size and speed, as a table."""

from __future__ import annotations

import platform
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import nn

from emo_mm.configs import build_from_config, get_config
from emo_mm.deploy.check import Found, check, images_in, input_of
from emo_mm.deploy.export import check_options, prepare, write
from emo_mm.deploy.formats import Run, formats
from emo_mm.deploy.graph import Graph
from emo_mm.deploy.options import ExportOptions
from emo_mm.errors import UserError
from emo_mm.runtime.metadata import Metadata

if TYPE_CHECKING:
    from emo_mm.predict.loading import LoadedModel

MODELS = ('ssdlite_emo_2m_coco', 'deeplabv3_emo_1m_ade20k', 'pspnet_emo_1m_ade20k', 'emo_1m_imagenet')
BEGIN, END = '<!-- matrix: written by tools/export_matrix.py -->', '<!-- end of matrix -->'
PLAIN, EAGER = 'PyTorch, plain', 'PyTorch, ours'


@dataclass
class Row:
    """A model in a format.

    Attributes:
        model: Name of the config.
        way: Format and precision.
        bytes: Of the file.
        found: What the check found.
        fault: Why there is none.
        seconds: Median time of a batch, by its size.
        ratio: Median over the rounds of the plain network's time to this one's, by batch size.
    """

    model: str
    way: str
    bytes: int = 0
    found: Found | None = None
    fault: str | None = None
    seconds: dict[int, float] = field(default_factory=dict)
    ratio: dict[int, float] = field(default_factory=dict)


def matrix(
    plain: Callable[[nn.Module], nn.Module],
    models: Sequence[str] = MODELS,
    ways: Sequence[tuple[str, str]] | None = None,
    batches: Sequence[int] = (1, 16),
    rounds: int = 3,
    threads: int = 2,
    images: str | None = None,
) -> list[Row]:
    """Export models with random weights in all ways, check and time them.

    Args:
        plain: Returns a copy of a model with the plain formulation of its backbone, whose eager speed is 1.
        models: Names of configs.
        ways: Formats and precisions; all that are installed if None.
        batches: Numbers of images at once to time.
        rounds: Turns that are timed, after one that is not; in each, all ways take turns.
        threads: Threads of PyTorch and of the runtimes.
        images: Folder of photographs to check with; random images if None.

    Raises:
        UserError: If a config or a folder cannot be used.
    """
    torch.set_num_threads(threads)
    rows = []
    for name in models:
        print(f'{name} ...', flush=True)
        with tempfile.TemporaryDirectory() as folder:
            rows += _measure_model(
                name, plain, ways or installed_ways(), batches, rounds, threads, images, Path(folder)
            )
    return rows


def installed_ways() -> list[tuple[str, str]]:
    """Return the formats that can run here, with the precisions of OpenVINO, whose half and int8 are fast."""
    found = []
    for name, kind in formats().items():
        for precision in ('float32', *(('half', 'int8') if name == 'openvino' else ())):
            try:
                check_options(_options('', name, precision, None))
            except UserError:
                continue
            if kind.open is not None:
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
    """Return a model with random weights; a detector's scores spread over both sides of its threshold."""
    from emo_mm.benchmark.end_to_end import random_detector
    from emo_mm.predict.loading import LoadedModel

    cfg = get_config(name)
    torch.manual_seed(0)
    model = build_from_config(cfg)
    if cfg.default_scope == 'mmdet':
        paths = [str(folder / f'{index}.png') for index in range(4)]
        for path, pixels in zip(paths, images_in(None, len(paths)), strict=True):
            Image.fromarray(pixels).save(path)
        model.load_state_dict(random_detector(cfg, paths))
    return LoadedModel(name, cfg, model, {}, '')


def _measure_model(
    name: str,
    plain: Callable[[nn.Module], nn.Module],
    ways: Sequence[tuple[str, str]],
    batches: Sequence[int],
    rounds: int,
    threads: int,
    images: str | None,
    folder: Path,
) -> list[Row]:
    loaded = random_model(name, folder)
    rows, runs = [Row(name, PLAIN), Row(name, EAGER)], dict[str, tuple[Run, Metadata]]()
    _, reference, size = prepare(loaded, _options(name, 'onnx', 'float32', images))
    runs[PLAIN] = _eager(Graph(plain(loaded.model), reference.metadata)), _any_batch(reference.metadata)
    runs[EAGER] = _eager(reference), _any_batch(reference.metadata)
    pictures = images_in(images, 4)
    rows[0].found = rows[1].found = None
    for format_name, precision in ways:
        row = Row(name, format_name + (f', {precision}' if precision != 'float32' else ''))
        rows.append(row)
        kind = formats()[format_name]
        path = folder / f'{format_name}_{precision}{kind.suffix}'
        assert kind.open is not None
        try:
            job, reference, size = prepare(loaded, _options(name, format_name, precision, images))
            write(kind, job, path)
            row.bytes, row.found = kind.size(path), Found()
            run = kind.open(path, job.metadata, threads)
            for _, _, found in check(run, reference, pictures, size):
                row.found.add(found)
        except Exception as error:  # of a runtime: the table goes on, and tells
            row.found, row.fault = None, f'fails: {str(error).splitlines()[0][:80]}'
            continue
        runs[row.way] = run, job.metadata
        print(f'  {row.way}: {row.found}', flush=True)
    for batch in batches:
        _time(rows, runs, batch, rounds, size, pictures)
    return rows


def _time(
    rows: Sequence[Row],
    runs: dict[str, tuple[Run, Metadata]],
    batch: int,
    rounds: int,
    size: tuple[int, int],
    images: Sequence[np.ndarray],
) -> None:
    chosen = [images[i % len(images)] for i in range(batch)]
    ready = {
        way: (run, input_of(chosen, size, metadata))
        for way, (run, metadata) in runs.items()
        if metadata.input.batch in (None, batch)
    }
    # small batches are over too soon to be timed once
    repeats = max(1, 16 // batch)
    seconds: dict[str, list[float]] = {way: [] for way in ready}
    for turn in range(rounds + 1):
        for way, (run, values) in ready.items():
            start = time.perf_counter()
            for _ in range(repeats if turn else 1):
                run(values)
            if turn:
                seconds[way].append((time.perf_counter() - start) / repeats)
    for row in rows:
        own = seconds.get(row.way)
        if own:
            row.seconds[batch] = median(own)
            row.ratio[batch] = median(other / mine for other, mine in zip(seconds[PLAIN], own, strict=True))


def _eager(graph: Graph) -> Run:
    def run(batch: np.ndarray) -> list[np.ndarray]:
        with torch.inference_mode():
            return [output.numpy() for output in graph(torch.from_numpy(batch))]

    return run


def _any_batch(metadata: Metadata) -> Metadata:
    from dataclasses import replace

    return replace(metadata, input=replace(metadata.input, batch=None))


def _options(name: str, format_name: str, precision: str, images: str | None) -> ExportOptions:
    return ExportOptions(
        name,
        format=format_name,
        dynamic='batch' if 'batch' in formats()[format_name].axes else None,
        half=precision == 'half',
        int8=precision == 'int8',
        images=images,
    )
