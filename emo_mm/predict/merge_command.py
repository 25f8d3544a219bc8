"""``emo-mm merge``."""

from __future__ import annotations

import argparse

from emo_mm.arguments import Argument, add_options, read_options

NAME = 'merge'
HELP = 'one file of results from the parts that predict --save-parquet wrote'

_EXCEPTIONS = {'out': Argument(metavar='DIR'), 'coco_ids': Argument(metavar='FILE')}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    from emo_mm.predict.options import MergeOptions

    add_options(parser, MergeOptions, _EXCEPTIONS)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from emo_mm.predict.merge import merge
    from emo_mm.predict.options import MergeOptions

    return merge(read_options(args, MergeOptions))
