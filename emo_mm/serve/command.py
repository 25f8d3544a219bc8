"""``emo-mm serve``."""

from __future__ import annotations

import argparse

from emo_mm.arguments import Argument, add_options, read_options

NAME = 'serve'
HELP = 'answer requests over HTTP with predictions'

_EXCEPTIONS = {
    'weights': Argument(metavar='W'),
    'host': Argument(metavar='ADDRESS'),
    'max_mb': Argument(metavar='MB'),
    'score_threshold': Argument(metavar='S'),
    'token_file': Argument(metavar='FILE'),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    from emo_mm.serve.options import ServeOptions

    add_options(parser, ServeOptions, _EXCEPTIONS)


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from emo_mm.serve.options import ServeOptions
    from emo_mm.serve.run import serve

    serve(read_options(args, ServeOptions))
