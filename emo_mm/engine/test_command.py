"""``emo-mm test``."""

from __future__ import annotations

import argparse

from emo_mm.arguments import Argument

NAME = 'test'
HELP = 'evaluate a checkpoint or an exported file'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    from emo_mm.engine.options import EvaluateOptions
    from emo_mm.engine.run_arguments import add_run_arguments

    add_run_arguments(parser, EvaluateOptions, {'out': Argument(metavar='FILE'), 'show_dir': Argument(metavar='DIR')})


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from emo_mm.engine.options import EvaluateOptions
    from emo_mm.engine.run_arguments import read_run_options
    from emo_mm.engine.test import evaluate

    evaluate(read_run_options(args, EvaluateOptions))
