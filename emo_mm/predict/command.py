"""``emo-mm predict``."""

from __future__ import annotations

import argparse

from emo_mm.arguments import Argument, add_options, read_options

NAME = 'predict'
HELP = 'boxes, masks or classes of images'

_EXCEPTIONS = {
    'sources': Argument(metavar='SOURCE'),
    'model': Argument(('--model',), metavar='M'),
    'weights': Argument(metavar='W'),
    'out': Argument(metavar='DIR'),
    'coco_ids': Argument(metavar='FILE'),
    'score_threshold': Argument(metavar='S'),
    'compiled': Argument(('--compile',)),
    'shards': Argument(metavar='I/N'),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    from emo_mm.predict.options import PredictOptions

    add_options(parser, PredictOptions, _EXCEPTIONS)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from emo_mm.predict.options import PredictOptions

    options = read_options(args, PredictOptions)
    if options.save_parquet:
        from emo_mm.predict.sharded import predict_shards

        return predict_shards(options)
    from emo_mm.predict.run import predict

    return predict(options)
