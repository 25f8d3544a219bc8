"""``emo-mm benchmark``."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from emo_mm.arguments import Argument, add_options, given, read_options

NAME = 'benchmark'
HELP = 'measure time and memory of models, side by side'


@dataclass(frozen=True)
class WhatToDo:
    """What the command line of ``benchmark`` gives beside the options of a measurement.

    Attributes:
        quick: Measure 3 rounds of the shortest turns: to try, not to publish.
        stages: Measure the stages of EMO beside a roofline estimate.
        show: Print the tables and pictures of a JSON file of results, and measure nothing.
    """

    quick: bool = False
    stages: bool = False
    show: str | None = None


_EXCEPTIONS = {
    'models': Argument(metavar='NAME', positional=True),
    'suite': Argument(metavar='S'),
    'sizes': Argument(('--size',), metavar='HxW', words=True),
    'batches': Argument(('--batch',)),
    'runtimes': Argument(('--runtime',), metavar='R'),
    'modes': Argument(('--mode',), metavar='M'),
    'dtypes': Argument(('--dtype',), metavar='T'),
    'baseline': Argument(metavar='B'),
    'turn_seconds': Argument(('--seconds',), metavar='S'),
    'images': Argument(metavar='DIR'),
    'out': Argument(metavar='DIR'),
    'show': Argument(metavar='FILE'),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    from emo_mm.benchmark.options import BenchmarkOptions

    add_options(parser, BenchmarkOptions, _EXCEPTIONS)
    add_options(parser, WhatToDo, _EXCEPTIONS)


def run(args: argparse.Namespace) -> None:
    """Run the command.

    Raises:
        UserError: If an option has a fault.
    """
    from emo_mm.benchmark.options import QUICK, BenchmarkOptions
    from emo_mm.benchmark.plan import parse_size
    from emo_mm.benchmark.run import run_benchmark, show_results
    from emo_mm.benchmark.stages import run_stages

    what = read_options(args, WhatToDo)
    settings = (QUICK if what.quick else {}) | given(args, BenchmarkOptions)
    if what.show:
        show_results(what.show, settings.get('out', BenchmarkOptions.out))
        return
    options = BenchmarkOptions(**settings | {'sizes': tuple(parse_size(text) for text in settings.get('sizes', ()))})
    if what.stages:
        run_stages(options)
    else:
        run_benchmark(options)
