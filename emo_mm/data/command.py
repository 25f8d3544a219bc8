"""``emo-mm data``: each kind of its work is a row of ``KINDS``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pkgutil import resolve_name

from emo_mm.arguments import Argument, add_options, read_options
from emo_mm.data.convert.options import EXCEPTIONS as CONVERT
from emo_mm.data.convert.options import FormatOptions
from emo_mm.data.shapes.command import ShapesOptions
from emo_mm.data.show.options import EXCEPTIONS as SHOW
from emo_mm.data.show.options import ShowOptions

NAME = 'data'
HELP = 'look at a data set, convert one, or make the demonstration data set'


@dataclass(frozen=True)
class Kind:
    """A kind of work.

    Attributes:
        name: Its word on the command line.
        help: What it does.
        options: The dataclass of its options.
        run: ``module:function`` that is given them.
        exceptions: How arguments differ from what their fields say.
    """

    name: str
    help: str
    options: type
    run: str
    exceptions: Mapping[str, Argument] = field(default_factory=dict)


KINDS = (
    Kind(
        'shapes', 'varied shapes with boxes, masks and class folders', ShapesOptions, 'emo_mm.data.shapes.command:make'
    ),
    Kind(
        'convert',
        'write a data set in another format',
        FormatOptions,
        'emo_mm.data.convert.command:convert',
        CONVERT,
    ),
    Kind(
        'show',
        'sheets of the truth and a page of statistics, before training',
        ShowOptions,
        'emo_mm.data.show.command:show',
        SHOW,
    ),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    kinds = parser.add_subparsers(metavar='KIND', required=True)
    for kind in KINDS:
        below = kinds.add_parser(kind.name, help=kind.help)
        add_options(below, kind.options, kind.exceptions)
        below.set_defaults(kind=kind)


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    resolve_name(args.kind.run)(read_options(args, args.kind.options))
