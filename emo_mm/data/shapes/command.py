"""``emo-mm data``."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from emo_mm.arguments import add_options, read_options

NAME = 'data'
HELP = 'make the demonstration data set'


@dataclass(frozen=True)
class ShapesOptions:
    """What the command line of ``data shapes`` gives.

    Attributes:
        root: Folder to make.
        num_train: Number of training scenes; each class folder gets a quarter as many pictures.
        num_val: Number of validation scenes, likewise.
        seed: Which data set: each seed gives other pictures.
    """

    root: str
    num_train: int = 400
    num_val: int = 100
    seed: int = 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    kinds = parser.add_subparsers(metavar='KIND', required=True)
    add_options(kinds.add_parser('shapes', help='varied shapes with boxes, masks and class folders'), ShapesOptions)


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from emo_mm.data.shapes.generate import generate

    options = read_options(args, ShapesOptions)
    print(generate(options.root, num_train=options.num_train, num_val=options.num_val, seed=options.seed))
