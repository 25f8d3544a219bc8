"""``emo-mm train``."""

from __future__ import annotations

import argparse

from emo_mm.arguments import Argument

NAME = 'train'
HELP = 'train a detector, segmenter or classifier'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    from emo_mm.engine.options import TrainOptions
    from emo_mm.engine.run_arguments import add_run_arguments

    own = {
        'resume': Argument(metavar='FILE', optional_value='auto'),
        'weights': Argument(metavar='W'),
        'track': Argument(metavar='T,...'),
    }
    add_run_arguments(parser, TrainOptions, own)


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from emo_mm.engine.options import TrainOptions
    from emo_mm.engine.run_arguments import read_run_options
    from emo_mm.engine.train import train

    train(read_run_options(args, TrainOptions))
