"""The picture: published accuracy against measured latency, and against parameters."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import NullFormatter, ScalarFormatter
from matplotlib.transforms import Bbox

from emo_mm.benchmark.results import Results, Row
from emo_mm.config.catalog import METRICS

_COLOURS = ('#d9652b', '#1f5fa8', '#3a9150', '#8a5bb0', '#b08a1e', '#4f4f4f', '#c2467f', '#2a9aa5')
_OURS = ('EMO', 'EMOv2')
# Where a label may stand beside its point, in points: right, left, above, below, then the corners.
_PLACES = ((7, -3), (-7, -3), (0, 7), (0, -13), (6, 5), (6, -11), (-6, 5), (-6, -11), (0, 16), (0, -22))


def pictures(results: Results, folder: Path) -> list[Path]:
    """Draw one picture for each runtime, dtype, batch and mode of inference that has two points with an accuracy.

    Args:
        results: The results.
        folder: Where the PNG files go.

    Returns:
        The files.
    """
    sets: dict[tuple[Any, ...], list[Row]] = {}
    for row in results.rows:
        if row.published is not None and not row.mode.startswith('train'):
            key = row.mode, row.published_metric, row.runtime, row.dtype, row.batch
            sets.setdefault(key, []).append(row)
    files = []
    for (mode, metric, runtime, dtype, batch), rows in sets.items():
        models = {row.model for row in rows}
        if not 2 <= len(models) == len(rows):
            continue  # one model alone, or several sizes of it, which share an accuracy
        conditions = [results.machine['cpu'] if rows[0].device == 'cpu' else results.machine['gpu']]
        conditions += [f'{rows[0].threads} threads'] if rows[0].device == 'cpu' else []
        conditions += [f'torch {results.machine["torch"]}', dtype, runtime, f'batch {batch}']
        path = folder / f'{mode}_{metric}_{runtime}_{dtype}_b{batch}.png'
        _draw(rows, METRICS[metric], ', '.join(conditions), path)
        files.append(path)
    return files


def _draw(rows: Sequence[Row], metric: str, conditions: str, path: Path) -> None:
    figure = Figure(figsize=(12, 5.4), dpi=120, layout='constrained')
    canvas = FigureCanvasAgg(figure)
    figure.suptitle(f'Published {metric} against measured time and size ({conditions})', fontsize=11)
    time_axes, size_axes = figure.subplots(1, 2, sharey=True)
    families = list(dict.fromkeys(row.family for row in rows))
    colours = {family: _COLOURS[i % len(_COLOURS)] for i, family in enumerate(families)}
    for axes in (time_axes, size_axes):
        axes.set_xscale('log')
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.25, which='both')
        axes.margins(x=0.16, y=0.12)
    for family in families:
        own = sorted((row for row in rows if row.family == family), key=lambda row: row.params)
        accuracy = [row.published for row in own]
        style = dict(marker='o', linewidth=1, color=colours[family], label=family, zorder=3 if family in _OURS else 2)
        time_axes.plot([row.median_ms for row in own], accuracy, **style)
        size_axes.plot([row.params / 1e6 for row in own], accuracy, **style)
    time_axes.set(xlabel='measured time of a step (ms), median; less is better', ylabel=f'published {metric} (%)')
    size_axes.set(xlabel='parameters (millions)')
    for axes in (time_axes, size_axes):
        ticks = _ticks(axes.get_xlim())
        axes.set_xticks(ticks)
    time_axes.legend(loc='lower right', fontsize=8, framealpha=0.8)
    canvas.draw()
    for axes, values in ((time_axes, [r.median_ms for r in rows]), (size_axes, [r.params / 1e6 for r in rows])):
        _label(axes, canvas, rows, values, colours)
    canvas.print_png(str(path))


def _ticks(limits: tuple[float, float]) -> list[float]:
    """Return round numbers within the limits of a logarithmic axis."""
    candidates = [step * 10.0**power for power in range(-3, 6) for step in (1, 2, 5)]
    return [value for value in candidates if limits[0] <= value <= limits[1]]


def _label(
    axes: Axes, canvas: FigureCanvasAgg, rows: Sequence[Row], values: Sequence[float], colours: dict[str, str]
) -> None:
    """Write the names beside the points, each at the place where it covers the fewest points and other names."""
    renderer = canvas.get_renderer()
    taken = []
    for row, value in zip(rows, values, strict=True):
        x, y = axes.transData.transform((value, row.published or 0.0))
        taken.append(Bbox.from_bounds(x - 5, y - 5, 10, 10))

    def covered(label: Annotation, place: tuple[int, int]) -> int:
        """Return how many points and names a label covers at a place, one more outside of the axes."""
        box = _moved(label, place, renderer)
        inside = axes.bbox.contains(box.x0, box.y0) and axes.bbox.contains(box.x1, box.y1)
        return sum(box.overlaps(other) for other in taken) + (not inside)

    for row, value in zip(rows, values, strict=True):
        label = axes.annotate(
            row.model,
            (value, row.published),
            xytext=(0, 0),
            textcoords='offset points',
            fontsize=8,
            color=colours[row.family],
            fontweight='bold' if row.family in _OURS else 'normal',
        )
        best = min(_PLACES, key=partial(covered, label))
        taken.append(_moved(label, best, renderer))


def _moved(label: Annotation, place: tuple[int, int], renderer: RendererBase) -> Bbox:
    """Move a label to a place beside its point; return the box that it covers."""
    across = place[0]
    label.set_position(place)
    label.set_horizontalalignment('left' if across > 0 else 'right' if across < 0 else 'center')
    return label.get_window_extent(renderer)
