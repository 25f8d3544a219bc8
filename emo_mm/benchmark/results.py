"""Results: rows of figures from measurements, as CSV and JSON, and back."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from emo_mm.benchmark.contest import Measurement
from emo_mm.benchmark.contestant import Contestant
from emo_mm.benchmark.counting import COUNTER, Complexity
from emo_mm.benchmark.plan import find_baseline
from emo_mm.errors import UserError


@dataclass(frozen=True)
class Row:
    """One contestant's figures. Empty text and None stand for what there is not.

    Attributes:
        model: Name of the model.
        family: Its family.
        runtime: Name in ``RUNTIMES``.
        mode: Name in ``MODES``.
        dtype: Name in ``DTYPES``.
        device: Device.
        size: Height×width of the input.
        batch: Images per step.
        threads: Threads of the CPU.
        allocator: Setting of the C allocator.
        params: Parameters of the network as built (of MobileOne in its form for inference, outside of training).
        macs: Multiply-adds of one image.
        counter: What counted the multiply-adds.
        median_ms: Median time of a step, in milliseconds, over all rounds.
        p10_ms: 10th percentile of the same.
        p90_ms: 90th percentile of the same.
        images_per_s: Images per second, at the median.
        baseline: What ``speedup`` compares with.
        speedup: How many times faster than the baseline: in each round the ratio of the two medians, of these the
            median.
        speedup_p10: 10th percentile of the ratios.
        speedup_p90: 90th percentile of the ratios.
        steps: Timed steps.
        peak_mb: See ``Memory.peak``, in MB (10⁶ bytes).
        kept_for_backward_mb: See ``Memory.kept_for_backward``.
        peak_rss_mb: See ``Memory.peak_rss``.
        preparation_s: Seconds of preparation, compilation included.
        published: Published accuracy in percent; measured nowhere here.
        published_metric: Its metric.
        published_source: Where it stands.
    """

    model: str
    family: str
    runtime: str
    mode: str
    dtype: str
    device: str
    size: str
    batch: int
    threads: int
    allocator: str
    params: int
    macs: int
    counter: str
    median_ms: float
    p10_ms: float
    p90_ms: float
    images_per_s: float
    baseline: str
    speedup: float | None
    speedup_p10: float | None
    speedup_p90: float | None
    steps: int
    peak_mb: float | None
    kept_for_backward_mb: float | None
    peak_rss_mb: float | None
    preparation_s: float
    published: float | None
    published_metric: str
    published_source: str


@dataclass(frozen=True)
class Results:
    """All that a benchmark found.

    Attributes:
        machine: The conditions, by name.
        settings: The options that it was called with, by name.
        rows: The figures.
        rounds: For each row the median milliseconds of each round.
        skipped: Combinations asked for that there are not.
    """

    machine: Mapping[str, Any]
    settings: Mapping[str, Any]
    rows: tuple[Row, ...]
    rounds: tuple[tuple[float, ...], ...]
    skipped: tuple[str, ...]


def make_rows(
    measurements: Sequence[Measurement], complexities: Mapping[Contestant, Complexity], baseline: str
) -> list[Row]:
    """Return the figures of a group.

    Args:
        measurements: What was measured of its contestants, in the same rounds.
        complexities: What each network costs.
        baseline: A runtime or a model, see ``BenchmarkOptions``.
    """
    medians = {m.contestant: round_medians(m) for m in measurements}
    return [_row(m, complexities[m.contestant], medians, baseline) for m in measurements]


def round_medians(measurement: Measurement) -> tuple[float, ...]:
    """Return the median milliseconds of each round."""
    return tuple(float(np.median(times)) for times in measurement.rounds)


def speedups(baseline: Sequence[float], other: Sequence[float]) -> tuple[float, float, float]:
    """Return how many times faster ``other`` is: median, 10th and 90th percentile of the ratios, round by round.

    What slows the machine down slows both times of a round, and leaves their ratio.
    """
    ratios = np.asarray(baseline) / np.asarray(other)
    median, p10, p90 = np.percentile(ratios, (50, 10, 90))
    return float(median), float(p10), float(p90)


def _row(
    measurement: Measurement,
    complexity: Complexity,
    medians: Mapping[Contestant, tuple[float, ...]],
    baseline: str,
) -> Row:
    c, memory = measurement.contestant, measurement.memory
    times = np.concatenate([np.asarray(times) for times in measurement.rounds])
    median, p10, p90 = (float(value) for value in np.percentile(times, (50, 10, 90)))
    other = find_baseline(c, medians, baseline)
    ratios: tuple[float, float, float] | tuple[None, None, None] = (None, None, None)
    if other is not None:
        ratios = speedups(medians[other], medians[c])
    published = c.subject.published
    return Row(
        model=c.subject.name,
        family=c.subject.family,
        runtime=c.runtime,
        mode=c.mode,
        dtype=c.dtype,
        device=c.device,
        size=f'{c.size[0]}×{c.size[1]}',
        batch=c.batch,
        threads=c.threads,
        allocator=measurement.allocator,
        params=complexity.params,
        macs=complexity.macs,
        counter=COUNTER,
        median_ms=median,
        p10_ms=p10,
        p90_ms=p90,
        images_per_s=1000 * c.batch / median,
        baseline=other.title if other is not None else '',
        speedup=ratios[0],
        speedup_p10=ratios[1],
        speedup_p90=ratios[2],
        steps=len(times),
        peak_mb=_megabytes(memory.peak),
        kept_for_backward_mb=_megabytes(memory.kept_for_backward),
        peak_rss_mb=_megabytes(memory.peak_rss),
        preparation_s=measurement.preparation,
        published=published.value if published else None,
        published_metric=published.metric if published else '',
        published_source=published.source if published else '',
    )


def _megabytes(size: int | None) -> float | None:
    return None if size is None else size / 1e6


# -- Files -----------------------------------------------------------------------------------------------------------


def write_csv(results: Results, path: Path) -> None:
    """Write the rows, each with the conditions it was measured under, rounded to what the measurement bears."""
    with path.open('w', newline='', encoding='utf-8') as file:
        writer = csv.DictWriter(file, [*(field.name for field in fields(Row)), *results.machine], lineterminator='\n')
        writer.writeheader()
        for row in results.rows:
            values = {name: _rounded(value) for name, value in (asdict(row) | dict(results.machine)).items()}
            writer.writerow({name: '' if value is None else value for name, value in values.items()})


def read_csv(path: Path) -> list[Row]:
    """Return the rows of a CSV file that ``write_csv`` wrote.

    Raises:
        UserError: If it is another file.
    """
    with path.open(newline='', encoding='utf-8') as file:
        lines = list(csv.DictReader(file))
    try:
        kinds = {field.name: str(field.type) for field in fields(Row)}
        return [Row(**{name: _parsed(line[name], kind) for name, kind in kinds.items()}) for line in lines]
    except (KeyError, ValueError) as error:
        raise UserError(f'{path} holds no rows of this version of the benchmark: {error}') from error


def write_json(results: Results, path: Path) -> None:
    """Write everything."""
    path.write_text(json.dumps(asdict(results), indent=1, ensure_ascii=False) + '\n', encoding='utf-8')


def read_json(path: Path) -> Results:
    """Return what ``write_json`` wrote.

    Raises:
        UserError: If it is another file.
    """
    try:
        values = json.loads(path.read_text(encoding='utf-8'))
        return Results(
            machine=values['machine'],
            settings=values['settings'],
            rows=tuple(Row(**row) for row in values['rows']),
            rounds=tuple(tuple(medians) for medians in values['rounds']),
            skipped=tuple(values['skipped']),
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f'{path} holds no results of this version of the benchmark: {error}') from error


def _rounded(value: Any) -> Any:
    """Return a float with five significant digits."""
    return float(f'{value:.5g}') if isinstance(value, float) and math.isfinite(value) else value


def _parsed(text: str, kind: str) -> Any:
    if kind == 'str':
        return text
    if text == '' and 'None' in kind:
        return None
    return int(text) if kind == 'int' else float(text)


# -- Tables ----------------------------------------------------------------------------------------------------------

TABLES = {
    'forward': 'The network alone',
    'e2e': 'From JPEG files to predictions',
    'train': 'Training step',
    'train-cp': 'Training step with recomputed activations',
}


def markdown(results: Results) -> str:
    """Return the conditions and one table per mode, in Markdown."""
    parts = [' '.join(f'{name}: {value}.' for name, value in results.machine.items() if value != '')]
    for mode, title in TABLES.items():
        rows = [row for row in results.rows if row.mode == mode]
        if rows:
            parts.append(f'### {title}\n\n{_table(rows)}')
    if results.skipped:
        parts.append('Not measured:\n\n' + '\n'.join(f'- {line}' for line in results.skipped))
    return '\n\n'.join(parts) + '\n'


def _table(rows: Iterable[Row]) -> str:
    rows = list(rows)
    trains = rows[0].mode.startswith('train')
    head = ['model', 'runtime', 'dtype', 'input', 'batch', 'params (M)', 'MACs (G)', 'median (ms)', 'p10–p90 (ms)']
    head += ['images/s', 'times faster (p10–p90)', 'than', 'peak (MB)']
    head += ['kept for backward (MB)'] if trains else ['published accuracy']
    lines = [head, ['---'] * 5 + [':-:' if name == 'than' else '--:' for name in head[5:]]]
    for row in rows:
        cells = [row.model, row.runtime, row.dtype, row.size, str(row.batch)]
        cells += [f'{row.params / 1e6:.2f}', f'{row.macs / 1e9:.3f}', f'{row.median_ms:.2f}']
        cells += [f'{row.p10_ms:.2f}–{row.p90_ms:.2f}', f'{row.images_per_s:.1f}', _speedup(row), row.baseline or '-']
        cells.append('-' if row.peak_mb is None else f'{row.peak_mb:.1f}')
        if trains:
            cells.append('-' if row.kept_for_backward_mb is None else f'{row.kept_for_backward_mb:.1f}')
        else:
            cells.append('-' if row.published is None else f'{row.published_metric} {row.published:.1f}')
        lines.append(cells)
    return '\n'.join(f'| {" | ".join(cells)} |' for cells in lines)


def _speedup(row: Row) -> str:
    if row.speedup is None:
        return '-'
    return f'{row.speedup:.2f} ({row.speedup_p10:.2f}–{row.speedup_p90:.2f})'
