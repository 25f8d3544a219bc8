"""``emo-mm train``."""

from __future__ import annotations

import argparse

from emo_mm.arguments import Argument, Group

NAME = 'train'
HELP = 'train a detector, segmenter or classifier'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    from emo_mm.engine.options import TrainOptions
    from emo_mm.engine.run_arguments import add_run_arguments

    small = Group('your own data', 'what fits a training to them; see docs/own_data.md')
    own = {
        'resume': Argument(metavar='FILE', optional_value='auto'),
        'weights': Argument(metavar='W'),
        'anchors': Argument(group=small),
        'input': Argument(metavar='SIZE', group=small),
        'patience': Argument(group=small),
        'freeze': Argument(metavar='STAGE', group=small),
        'class_weights': Argument(group=small),
        'balance': Argument(group=small),
        'track': Argument(metavar='T,...'),
    }
    add_run_arguments(parser, TrainOptions, own)


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from emo_mm.engine.device import choose_device
    from emo_mm.engine.options import TrainOptions
    from emo_mm.engine.run_arguments import read_run_options

    options = read_run_options(args, TrainOptions)
    choose_device(options.device, options.launcher)  # before what imports PyTorch
    from emo_mm.engine.train import train

    train(options)
