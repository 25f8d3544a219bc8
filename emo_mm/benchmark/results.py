"""Results: rows of figures from measurements, as CSV and JSON, and back."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from emo_mm.benchmark.contest import Measurement
from emo_mm.benchmark.contestant import Contestant
from emo_mm.benchmark.counting import COUNTER, Complexity
from emo_mm.benchmark.plan import find_baseline
from emo_mm.benchmark.tables import CENTRE, RIGHT, Column, markdown_table
from emo_mm.benchmark.timing import spread
from emo_mm.errors import UserError


@dataclass(frozen=True)
class Row:
    """One contestant's figures. Empty text and None stand for what was not measured or does not exist.

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
        speedup: How many times faster than the baseline: the median over the rounds of the ratio of the two medians.
        speedup_p10: 10th percentile of the ratios.
        speedup_p90: 90th percentile of the ratios.
        steps: Timed steps.
        peak_mb: See ``Memory.peak``, in MB (10⁶ bytes).
        kept_for_backward_mb: See ``Memory.kept_for_backward``.
        peak_rss_mb: See ``Memory.peak_rss``.
        preparation_s: Seconds of preparation, compilation included.
        published: Published accuracy in percent; measured nowhere here.
        published_metric: Its metric.
        published_source: Where it was published.
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
    """Everything that a benchmark found.

    Attributes:
        machine: The conditions, by name.
        settings: The options that it was called with, by name.
        rows: The figures.
        rounds: For each row the median milliseconds of each round.
        skipped: Combinations that could not be measured, each with the reason.
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

    What slows the machine down slows both times of a round, and leaves their ratio as it is.
    """
    return spread(np.asarray(baseline) / np.asarray(other))


def _row(
    measurement: Measurement,
    complexity: Complexity,
    medians: Mapping[Contestant, tuple[float, ...]],
    baseline: str,
) -> Row:
    c, memory = measurement.contestant, measurement.memory
    times = np.concatenate([np.asarray(times) for times in measurement.rounds])
    median, p10, p90 = spread(times)
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
        size=c.pixels,
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
    """Write the rows, each with the conditions it was measured under, rounded to five significant digits."""
    with path.open('w', newline='', encoding='utf-8') as file:
        writer = csv.DictWriter(file, [*(field.name for field in fields(Row)), *results.machine], lineterminator='\n')
        writer.writeheader()
        for row in results.rows:
            values = {name: _rounded(value) for name, value in (asdict(row) | dict(results.machine)).items()}
            writer.writerow({name: '' if value is None else value for name, value in values.items()})


def read_csv(path: Path) -> list[Row]:
    """Return the rows of a CSV file that ``write_csv`` wrote.

    Raises:
        UserError: If the file holds something else.
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
        UserError: If the file holds something else.
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

_TITLES = {
    'forward': 'The network alone',
    'e2e': 'From JPEG files to predictions',
    'train': 'Training step',
    'train-cp': 'Training step with recomputed activations',
}


def _number(value: float | None, spec: str) -> str:
    return '' if value is None else format(value, spec)


def _speedup(row: Row) -> str:
    return '' if row.speedup is None else f'{row.speedup:.2f} ({row.speedup_p10:.2f}–{row.speedup_p90:.2f})'


def _published(row: Row) -> str:
    return '' if row.published is None else f'{row.published_metric} {row.published:.1f}'


_COLUMNS = (
    Column('model', lambda row: row.model),
    Column('runtime', lambda row: row.runtime),
    Column('dtype', lambda row: row.dtype),
    Column('input', lambda row: row.size),
    Column('batch', lambda row: str(row.batch)),
    Column('params (M)', lambda row: f'{row.params / 1e6:.2f}', RIGHT),
    Column('MACs (G)', lambda row: f'{row.macs / 1e9:.3f}', RIGHT),
    Column('median (ms)', lambda row: f'{row.median_ms:.2f}', RIGHT),
    Column('p10–p90 (ms)', lambda row: f'{row.p10_ms:.2f}–{row.p90_ms:.2f}', RIGHT),
    Column('images/s', lambda row: f'{row.images_per_s:.1f}', RIGHT),
    Column('times faster (p10–p90)', _speedup, RIGHT),
    Column('than', lambda row: row.baseline, CENTRE),
    Column('peak (MB)', lambda row: _number(row.peak_mb, '.1f'), RIGHT),
)
_KEPT = Column('kept for backward (MB)', lambda row: _number(row.kept_for_backward_mb, '.1f'), RIGHT)
_ACCURACY = Column('published accuracy', _published, RIGHT)


def markdown(results: Results) -> str:
    """Return the conditions and one table per mode, in Markdown."""
    parts = [' '.join(f'{name}: {value}.' for name, value in results.machine.items() if value != '')]
    for mode, title in _TITLES.items():
        rows = [row for row in results.rows if row.mode == mode]
        if rows:
            columns = (*_COLUMNS, _KEPT if mode.startswith('train') else _ACCURACY)
            parts.append(f'### {title}\n\n{markdown_table(columns, rows)}')
    if results.skipped:
        parts.append('Not measured:\n\n' + '\n'.join(f'- {line}' for line in results.skipped))
    return '\n\n'.join(parts) + '\n'
