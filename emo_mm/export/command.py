"""``emo-mm export``."""

from __future__ import annotations

import argparse

from emo_mm.arguments import Argument, add_options, read_options

NAME = 'export'
HELP = 'write a file for another runtime, and check it there'

_EXCEPTIONS = {
    'weights': Argument(metavar='W'),
    'input': Argument(metavar='SIZE'),
    'dynamic': Argument(metavar='AXES'),
    'images': Argument(('--calibration', '--images'), metavar='DIR'),
    'data_root': Argument(metavar='DIR'),
    'out': Argument(metavar='FILE'),
    'tolerance': Argument(metavar='T'),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    from emo_mm.export.formats import format_names
    from emo_mm.export.options import ExportOptions

    of_rows = {'format': Argument(metavar='F', values=format_names())}
    add_options(parser, ExportOptions, _EXCEPTIONS | of_rows)


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from emo_mm.export.options import ExportOptions
    from emo_mm.export.run import export

    export(read_options(args, ExportOptions))
