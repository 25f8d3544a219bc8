#!/usr/bin/env python
"""Train the detection heads on one data set for the same time, several seeds each, and write what they reach.

A head that takes longer for a step gets fewer epochs: the pace of all of them is measured first, in turns. A run that
is there already is not made again, so that a killed comparison goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from emo_mm.benchmark.results import Row, read_json

TOOLS = Path(__file__).resolve().parents[1]
METRICS = {'AP': 'coco/bbox_mAP', 'AP50': 'coco/bbox_mAP_50', 'AP75': 'coco/bbox_mAP_75'}
TURNS = 3  # epochs of each head, of which the fastest is its pace: what else the machine does only slows it


@dataclass(frozen=True)
class Head:
    """A head to compare: the config of its demonstration on EMO-1M, and what a user gives beside it."""

    config: str
    options: tuple[str, ...] = ()
    on_2m: tuple[str, ...] = ('model.neck.in_channels=[48,120,200]',)


HEADS = {
    'SSDLite': Head(
        'ssdlite_emo_1m_demo',
        ('--anchors', 'auto'),
        (
            'model.neck.in_channels=[120,200]',
            'model.neck.out_channels=[120,200,512,256,256,128]',
            'model.bbox_head.in_channels=[120,200,512,256,256,128]',
        ),
    ),
    'RTMDet': Head('rtmdet_emo_1m_demo'),
    'GFL': Head('gfl_emo_1m_demo'),
}


@dataclass(frozen=True)
class Run:
    """A finished training, with the figures of its best checkpoint on the test split."""

    head: str
    arch: str
    seed: int
    epochs: int
    minutes: float
    metrics: dict[str, float]


def main() -> int:
    """Measure the pace, train what is not trained yet, and write the table."""
    args = _arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    contestants = [(head, arch) for arch in args.archs for head in args.heads]
    pace = _paces(contestants, args)
    base = pace['SSDLite', args.archs[0]]
    epochs = {one: max(1, round(args.epochs * base / seconds)) for one, seconds in pace.items()}
    # seed by seed, so that a comparison which is not finished has as many of each
    wanted = [(one, seed) for seed in range(args.seeds) for one in contestants]
    with ThreadPoolExecutor(args.jobs) as pool:
        runs = list(pool.map(lambda run: _trained(run[0], run[1], epochs[run[0]], args), wanted))
    if args.times:
        picture(runs, read_json(args.times).rows, args.out / 'accuracy_and_time.png')
    lines = table(runs, pace, base)
    (args.out / 'table.md').write_text('\n'.join(lines) + '\n')
    (args.out / 'runs.json').write_text(json.dumps([asdict(run) for run in runs], indent=1) + '\n')
    print('\n'.join(lines))
    return 0


def table(runs: Sequence[Run], pace: dict[tuple[str, str], float], base: float) -> list[str]:
    """Return the lines of the table in Markdown: means and spreads (sample standard deviations) over the seeds."""
    head = ['head', 'backbone', 'step', 'epochs', 'minutes', *METRICS]
    lines = [f'| {" | ".join(head)} |', f'| --- | --- |{" ---: |" * (len(head) - 2)}']
    for one in dict.fromkeys((run.head, run.arch) for run in runs):
        mine = [run for run in runs if (run.head, run.arch) == one]
        figures = [_spread(run.metrics[name] for run in mine) for name in METRICS]
        minutes = f'{min(run.minutes for run in mine):.1f} to {max(run.minutes for run in mine):.1f}'
        cells = [one[0], f'EMO-{one[1].upper()}', f'{pace[one] / base:.2f}', str(mine[0].epochs), minutes, *figures]
        lines.append(f'| {" | ".join(cells)} |')
    return lines


def picture(runs: Sequence[Run], times: Sequence[Row], path: Path) -> None:
    """Draw accuracy against time: what the authors published on COCO, and apart from it what was trained here.

    Args:
        runs: The runs.
        times: Measured times of the COCO configs, of which those in ONNX Runtime are drawn.
        path: The PNG file.
    """
    figure = Figure(figsize=(11, 4.6), dpi=110, layout='constrained')
    left, right = figure.subplots(1, 2, sharex=True)
    onnx = {row.model: row for row in times if row.runtime == 'onnx'}
    published = [row for row in onnx.values() if row.published is not None]
    _line(left, published, [row.published or 0 for row in published], 'SSDLite', 0)
    for number, head in enumerate(HEADS):
        archs = list(dict.fromkeys(run.arch for run in runs if run.head == head))
        rows = [onnx[HEADS[head].config.replace('_1m_demo', f'_{arch}_coco')] for arch in archs]
        found = [[100 * run.metrics['AP'] for run in runs if (run.head, run.arch) == (head, arch)] for arch in archs]
        _line(right, rows, [mean(values) for values in found], head, number)
        for row, values in zip(rows, found, strict=True):
            right.plot([row.median_ms] * len(values), values, '.', color=f'C{number}', alpha=0.5)
    left.set(title='Published by the authors, on COCO', ylabel='box AP on val2017 (%)')
    right.set(title='Trained here from random weights, on blood cells', ylabel='box AP on test (%)')
    for axes in (left, right):
        axes.set_xlabel(f'network at {published[0].size} in ONNX Runtime, {published[0].threads} threads (ms)')
        axes.grid(alpha=0.25)
        axes.margins(x=0.18)
        axes.legend(fontsize=8)
    FigureCanvasAgg(figure).print_png(str(path))


def _line(axes: Axes, rows: Sequence[Row], values: Sequence[float], label: str, colour: int) -> None:
    axes.plot([row.median_ms for row in rows], values, 'o-', color=f'C{colour}', label=label)
    for row, value in zip(rows, values, strict=True):
        name = 'EMO-' + row.model.split('_')[2].upper()
        axes.annotate(name, (row.median_ms, value), (6, -10), textcoords='offset points', fontsize=8)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('data', type=Path, help='folder of the data set, with a test split')
    parser.add_argument('out', type=Path, help='folder for the runs, the table and runs.json')
    parser.add_argument('--heads', nargs='+', default=list(HEADS), choices=list(HEADS))
    parser.add_argument('--archs', nargs='+', default=['1m', '2m'], choices=['1m', '2m'])
    parser.add_argument('--seeds', type=int, default=3)
    parser.add_argument('--epochs', type=int, default=25, help='of SSDLite on the first backbone; it sets the time')
    parser.add_argument('--jobs', type=int, default=1, help='trainings at once, each on one thread if several')
    parser.add_argument('--times', type=Path, help='JSON of emo-mm benchmark with the COCO configs, for the picture')
    return parser.parse_args()


def _paces(contestants: Iterable[tuple[str, str]], args: argparse.Namespace) -> dict[tuple[str, str], float]:
    """Return the seconds per iteration of each; turn by turn, so that a slow moment strikes all of them."""
    file = args.out / 'pace.json'
    known: dict[str, list[float]] = json.loads(file.read_text()) if file.exists() else {}
    for turn in range(TURNS):
        for head, arch in contestants:
            times = known.setdefault(f'{head} {arch}', [])
            if len(times) > turn:
                continue
            folder = args.out / f'pace_{head}_{arch}_{turn}'
            _train(head, arch, folder, args, ('--epochs', '1', '--no-val'))
            log = next(folder.glob('*/vis_data/scalars.json')).read_text().splitlines()
            times.append(next(row['time'] for row in map(json.loads, log) if 'loss' in row))
            file.write_text(json.dumps(known, indent=1) + '\n')
    return {(head, arch): min(known[f'{head} {arch}']) for head, arch in contestants}


def _trained(contestant: tuple[str, str], seed: int, epochs: int, args: argparse.Namespace) -> Run:
    """Return a run; it is made unless it is there already."""
    head, arch = contestant
    folder = args.out / f'{head}_{arch}_{seed}'
    done = folder / 'run.json'
    if not done.exists():
        if not (folder / 'metrics.json').exists():
            resume = ('--resume',) if folder.exists() else ()
            _train(head, arch, folder, args, ('--epochs', str(epochs), '--seed', str(seed), *resume))
        minutes = json.loads((folder / 'metrics.json').read_text())['seconds'] / 60
        best = next(folder.glob('best_*.pth'))
        test = ('test', str(next(folder.glob('*.py'))), str(best), '--work-dir', str(folder / 'test'))
        _command(*test, log=folder / 'test.log', args=args)
        found = json.loads((folder / 'test' / 'test_metrics.json').read_text())['metrics']
        metrics = {name: found[key] for name, key in METRICS.items()}
        done.write_text(json.dumps(asdict(Run(head, arch, seed, epochs, minutes, metrics)), indent=1) + '\n')
        print(f'{folder.name}: {epochs} epochs, {minutes:.1f} min, {metrics}', flush=True)
    return Run(**json.loads(done.read_text()))


def _train(head: str, arch: str, folder: Path, args: argparse.Namespace, options: Sequence[str]) -> None:
    how = HEADS[head]
    changes = (f'model.backbone.arch={arch}', *how.on_2m) if arch == '2m' else ()
    change = ('--cfg-options', *changes) if changes else ()
    command = ('train', how.config, '--data-root', str(args.data), '--work-dir', str(folder))
    _command(*command, *how.options, *options, *change, log=folder.with_suffix('.log'), args=args)


def _command(*words: str, log: Path, args: argparse.Namespace) -> None:
    """Run a command of emo-mm; its output goes to a file.

    Raises:
        SystemExit: If it fails.
    """
    environment: dict[str, Any] = {**os.environ, **({'OMP_NUM_THREADS': '1'} if args.jobs > 1 else {})}
    command = [sys.executable, str(TOOLS / f'{words[0]}.py'), *words[1:], '--workers', '1', '--no-report']
    with log.open('w') as file:
        done = subprocess.run(command, env=environment, stdout=file, stderr=file, check=False)  # nosec B603
    code = done.returncode
    if code:
        raise SystemExit(f'{" ".join(words)} failed; see {log}')


def _spread(values: Iterable[float]) -> str:
    found = list(values)
    return f'{mean(found):.3f} ± {stdev(found):.3f}' if len(found) > 1 else f'{found[0]:.3f}'


if __name__ == '__main__':
    sys.exit(main())
