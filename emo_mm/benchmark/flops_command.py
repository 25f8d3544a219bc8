"""``emo-mm flops``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from emo_mm.arguments import add_options, read_options
from emo_mm.errors import UserError

NAME = 'flops'
HELP = 'parameters and multiply-adds of each module of a model'


@dataclass(frozen=True)
class FlopsOptions:
    """What the command line of ``flops`` gives.

    Attributes:
        model: Name or path of a config, a backbone or a peer.
        shape: Height and width of the input, or one side; as published if not given.
        depth: Levels of modules to show.
    """

    model: str
    shape: Sequence[int] | None = None
    depth: int = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_options(parser, FlopsOptions)


def run(args: argparse.Namespace) -> None:
    """Run the command.

    Raises:
        UserError: If an option has a fault.
    """
    from emo_mm.benchmark.flops import print_flops

    options = read_options(args, FlopsOptions)
    shape = options.shape
    if shape is not None and (len(shape) > 2 or min(shape) < 1):
        raise UserError(f'--shape {" ".join(map(str, shape))}: it must be one side, or height and width')
    print_flops(options.model, (shape[0], shape[-1]) if shape else None, options.depth)
