"""Charts as SVG, for pages: lines, bars, matrices. Text stays text, so that any script can be shown and searched."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

#: Colours that are told apart by those who see few of them, too.
COLOURS = ('#1f5fa8', '#d9652b', '#3a9150', '#8a5bb0', '#b08a1e', '#4f4f4f', '#c04a7b', '#2a9aa8')
MANY = 30  # with more rows or columns than this, a matrix has no names and no numbers


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes:
        x: Where, shape (n,).
        y: What, shape (n,); NaN leaves a gap.
        strong: Whether it is drawn thick, above the others.
    """

    x: np.ndarray
    y: np.ndarray
    strong: bool = False


def line_chart(
    lines: Mapping[str, Line], xlabel: str, ylabel: str, mark: tuple[float, float, str] | None = None
) -> bytes:
    """Draw lines over an axis from 0 to 1.

    Args:
        lines: Name to line.
        xlabel: What the horizontal axis is.
        ylabel: What the vertical axis is.
        mark: A point with a text beside it.

    Returns:
        The SVG.
    """
    with _drawing(5.2, 3.9) as (axes, out):
        for (name, line), colour in zip(lines.items(), _cycle(len(lines)), strict=True):
            ink, width = ('#111111', 2.6) if line.strong else (colour, 1.3)
            axes.plot(line.x, line.y, color=ink, linewidth=width, label=_plain(name), zorder=3 if line.strong else 2)
        if mark is not None:
            x, y, text = mark
            axes.plot([x], [y], marker='o', color='#111111', zorder=4)
            left = x > 0.6
            axes.annotate(
                text, (x, y), (-8 if left else 8, 8), textcoords='offset points', ha='right' if left else 'left'
            )
        axes.set(xlabel=xlabel, ylabel=ylabel, xlim=(0, 1), ylim=(0, 1.04))
        axes.grid(alpha=0.3)
        if lines:
            axes.legend(fontsize=8, loc='best')
    return out.getvalue()


def bar_chart(names: Sequence[str], series: Mapping[str, Sequence[float]], xlabel: str) -> bytes:
    """Draw horizontal bars, one group per name, from top to bottom.

    Args:
        names: Names of the groups.
        series: Name of a series to its value for each group; NaN has no bar.
        xlabel: What the values are.

    Returns:
        The SVG.
    """
    count = max(len(series), 1)
    with _drawing(6.4, min(1.2 + 0.2 * len(names) * (1 + 0.5 * count), 40)) as (axes, out):
        places = np.arange(len(names))
        for index, ((name, values), colour) in enumerate(zip(series.items(), _cycle(count), strict=False)):
            offset = (index - (count - 1) / 2) * 0.8 / count
            axes.barh(places + offset, np.asarray(values, float), 0.8 / count, color=colour, label=_plain(name))
        axes.set_yticks(places, [_plain(name) for name in names], parse_math=False)
        axes.invert_yaxis()
        axes.set(xlabel=xlabel)
        axes.grid(alpha=0.3, axis='x')
        if count > 1:
            axes.legend(fontsize=8)
    return out.getvalue()


def histogram(
    values: Mapping[str, np.ndarray], edges: np.ndarray, xlabel: str, ylabel: str, log: bool = False
) -> bytes:
    """Draw how values are spread, one outline per series.

    Args:
        values: Name of a series to its values.
        edges: Borders of the bins, ascending.
        xlabel: What the values are.
        ylabel: What is counted.
        log: Whether the horizontal axis is logarithmic.

    Returns:
        The SVG.
    """
    with _drawing(5.2, 3.4) as (axes, out):
        for (name, series), colour in zip(values.items(), _cycle(len(values)), strict=True):
            axes.hist(series, bins=list(edges), histtype='stepfilled', alpha=0.35, color=colour, label=_plain(name))
            axes.hist(series, bins=list(edges), histtype='step', color=colour)
        axes.set(xlabel=xlabel, ylabel=ylabel, xscale='log' if log else 'linear')
        if log:
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter('{x:g}')
            axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.3)
        if len(values) > 1:
            axes.legend(fontsize=8)
    return out.getvalue()


def matrix_chart(matrix: np.ndarray, names: Sequence[str], xlabel: str, ylabel: str) -> bytes:
    """Draw a confusion matrix: counts as numbers, the share of each row as colour.

    Args:
        matrix: Counts, shape (n, n).
        names: Name of each row, and of each column.
        xlabel: What the columns are.
        ylabel: What the rows are.

    Returns:
        The SVG.
    """
    count = len(names)
    totals = matrix.sum(axis=1, keepdims=True)
    share = np.divide(matrix, totals, out=np.zeros(matrix.shape), where=totals > 0)
    side = float(np.clip(2.6 + 0.5 * count, 4, 12))
    with _drawing(side + 1, side) as (axes, out):
        shown = axes.imshow(share, cmap='Blues', vmin=0, vmax=1)
        axes.figure.colorbar(shown, ax=axes, label='share of the row', shrink=0.7)
        if count <= MANY:
            texts = [_plain(name) for name in names]
            axes.set_xticks(range(count), texts, rotation=45, ha='right', rotation_mode='anchor', parse_math=False)
            axes.set_yticks(range(count), texts, parse_math=False)
            for row, column in zip(*np.nonzero(matrix), strict=True):
                ink = 'white' if share[row, column] > 0.55 else '#222222'
                value = _short(float(matrix[row, column]))
                axes.text(column, row, value, ha='center', va='center', color=ink, fontsize=8)
        axes.set(xlabel=xlabel, ylabel=ylabel)
    return out.getvalue()


@contextmanager
def _drawing(width: float, height: float) -> Iterator[tuple[Axes, io.BytesIO]]:
    """Give axes to draw on, of a size in inches, and then write them to a stream as SVG."""
    out = io.BytesIO()
    # hashsalt: the same chart is the same file
    with matplotlib.rc_context({'svg.fonttype': 'none', 'svg.hashsalt': 'emo_mm', 'font.size': 9}):
        figure = Figure(figsize=(width, height), layout='constrained')
        FigureCanvasSVG(figure)  # binds the figure to this backend alone, whatever the process has chosen
        axes = figure.subplots()
        yield axes, out
        axes.spines[['top', 'right']].set_visible(False)
        with warnings.catch_warnings():
            # the browser has the characters that the font lacks which the text is measured with
            warnings.filterwarnings('ignore', 'Glyph .* missing')
            figure.savefig(out, format='svg', metadata={'Date': None})


def _cycle(count: int) -> list[str]:
    return [COLOURS[index % len(COLOURS)] for index in range(count)]


def _plain(name: str) -> str:
    """Return a name as matplotlib shall draw it: short, and with no character that it reads as markup."""
    short = (name if len(name) <= 32 else f'{name[:31]}…').replace('$', '＄')  # dollars are formulas to matplotlib
    return f'\u200b{short}' if short.startswith('_') else short  # such names are left out of legends


def _short(number: float) -> str:
    """Return a count in few characters: 1234567 as 1.2M."""
    for unit, size in (('M', 1e6), ('k', 1e4)):
        if number >= size:
            return f'{number / (1e6 if unit == "M" else 1e3):.3g}{unit}'
    return f'{number:g}'
