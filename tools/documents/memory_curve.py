#!/usr/bin/env python
"""Measure the memory of a training over thousands of iterations and draw it: it must not grow.

The training is a small one with all its parts: loader processes, augmentation, EMA, validation, checkpoints, logs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from emo_mm.config.names import find_config
from emo_mm.data.shapes.generate import generate
from emo_mm.data.splits import DataRequest
from emo_mm.engine.options import TrainOptions
from emo_mm.engine.train import train

IMAGES, BATCH, WORKERS, SIDE = 64, 4, 2, 32
WARM_UP = 0.25  # part of the iterations after which memory must not grow
_MB = 1e6
_curves: dict[str, list[float]] = {'iteration': [], 'training process': [], 'loader processes': []}


@HOOKS.register_module()
class MemoryHook(Hook):
    """Records the resident memory of this process and of the loader processes every tenth iteration."""

    def after_train_iter(self, runner: Any, batch_idx: int, *args: Any, **kwargs: Any) -> None:
        """Record it."""
        if not self.every_n_train_iters(runner, 10):
            return
        children = Path('/proc/self/task').glob('*/children')
        loaders = {child for path in children for child in path.read_text().split()}
        values = (runner.iter + 1, resident('self'), sum(map(resident, loaders)))
        for curve, value in zip(_curves.values(), values, strict=True):
            curve.append(value)


def resident(process: str) -> float:
    """Return the resident memory of a process in MB (10^6 bytes), 0 where it has just ended."""
    try:
        lines = Path(f'/proc/{process}/status').read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) * 1024 / _MB for line in lines if line.startswith('VmRSS')), 0.0)


def run(iterations: int, folder: Path) -> None:
    """Train a small classifier for a number of iterations in a folder."""
    data = generate(folder / 'shapes', num_train=IMAGES, num_val=16).root
    config = folder / 'memory.py'
    config.write_text(
        f'_base_ = {str(find_config("emo_1m_demo"))!r}\n'
        "custom_hooks = [*_base_.custom_hooks, dict(type='MemoryHook')]\n"
        f'train_cfg = dict(max_epochs={iterations * BATCH // IMAGES}, val_interval=5)\n'
    )
    pipeline = '{}_dataloader.dataset.pipeline.{}'
    sizes = {
        pipeline.format('train', '1.scale'): SIDE,
        pipeline.format('val', '1.scale'): SIDE,
        pipeline.format('val', '2.crop_size'): SIDE,
    }
    options = TrainOptions(
        str(config),
        work_dir=str(folder / 'run'),
        cfg_options=sizes,
        data=DataRequest(data_root=str(data / 'folders')),
        batch_size=BATCH,
        workers=WORKERS,
        seed=0,
    )
    train(options)


def draw(path: Path) -> None:
    """Draw the curves into a PNG."""
    figure = Figure(figsize=(8, 3.6), dpi=110, layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    steps, *rest = _curves
    for name, colour in zip(rest, ('#1f5fa8', '#d9652b'), strict=True):
        axes.plot(_curves[steps], _curves[name], color=colour, linewidth=2, label=name)
    axes.set(xlabel='iteration', ylabel='resident memory (MB)', title='Memory of a training')
    axes.set_ylim(0)
    axes.grid(alpha=0.3)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main() -> int:
    """Measure and draw; return 1 if memory grew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--iterations', type=int, default=2000)
    parser.add_argument('--out', type=Path, default=Path('docs/images/memory_curve.png'))
    parser.add_argument('--limit', type=float, default=5.0, help='growth that is accepted, in percent')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run(args.iterations, Path(folder))
    draw(args.out)
    steps, *rest = (np.array(curve) for curve in _curves.values())
    settled = steps >= WARM_UP * steps[-1]
    grown = False
    for name, values in zip(list(_curves)[1:], rest, strict=True):
        slope = np.polyfit(steps[settled], values[settled], 1)[0] * 1000
        first, last = np.median(values[settled][:10]), np.median(values[settled][-10:])
        grown |= last > first * (1 + args.limit / 100)
        print(
            f'{name}: {first:.1f} MB at iteration {steps[settled][0]:.0f}, {last:.1f} MB at {steps[-1]:.0f}, '
            f'most {values.max():.1f} MB; {slope:+.2f} MB per 1,000 iterations'
        )
    return int(grown)


if __name__ == '__main__':
    sys.exit(main())
