"""``emo-mm train``."""

from __future__ import annotations

import argparse

from emo_mm.arguments import Argument

NAME = 'train'
HELP = 'train a detector, segmenter or classifier'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    from emo_mm.engine.run_arguments import add_run_arguments
    from emo_mm.engine.run_options import TrainOptions

    own = {'resume': Argument(metavar='FILE', optional_value='auto'), 'weights': Argument(metavar='W')}
    add_run_arguments(parser, TrainOptions, own)


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from emo_mm.engine.launch import train
    from emo_mm.engine.run_arguments import read_run_options
    from emo_mm.engine.run_options import TrainOptions

    train(read_run_options(args, TrainOptions))
