#!/usr/bin/env python
"""Generate the demonstration data, train on it, evaluate, and leave pictures: what ``make demo`` runs."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from emo_mm.config.names import get_config
from emo_mm.config.view import task_of
from emo_mm.data.shapes.generate import generate
from emo_mm.engine.options import TrainOptions
from emo_mm.engine.train import train
from emo_mm.errors import UserError
from emo_mm.tasks import TASKS

DATA = Path('data/shapes')  # where the demonstration configs look


def main() -> int:
    """Run the demonstration of a task."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--task', choices=TASKS, default='det')
    parser.add_argument('--model', help='another config on the demonstration data')
    args = parser.parse_args()
    start = time.monotonic()
    try:
        model = args.model or TASKS[args.task].demo
        metric = task_of(get_config(model)).demo_metric
        print(generate(DATA))
        metrics = train(TrainOptions(config=model, seed=0))
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    value = metrics['last'].get(metric)
    folder = Path('work_dirs') / metrics['config']
    print(f'{metric} {value} after {time.monotonic() - start:.0f} s on {metrics["threads"]} threads')
    print(f'see {folder}/metrics.json, {folder}/curves.png and {folder}/predictions.png')
    return 0


if __name__ == '__main__':
    sys.exit(main())
