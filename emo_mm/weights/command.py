"""``emo-mm weights``."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Literal

from emo_mm.arguments import Argument, add_options, read_options

NAME = 'weights'
HELP = 'list the published weights, or convert weights'


@dataclass(frozen=True)
class ConvertOptions:
    """What the command line of ``weights convert`` gives.

    Attributes:
        source: Official or trained checkpoint: a file, an address or a published name.
        out: Folder of the new file.
        to: Names of the tensors: ours (``native``), or those of the published files (``official``).
        format: Format of the new file.
    """

    source: str
    out: str = '.'
    to: Literal['native', 'official'] = 'native'
    format: Literal['safetensors', 'pth'] = 'safetensors'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    actions = parser.add_subparsers(metavar='ACTION', dest='action')
    convert = actions.add_parser('convert', help='write a clean, safe file for sharing')
    add_options(convert, ConvertOptions, {'out': Argument(metavar='DIR')})


def run(args: argparse.Namespace) -> None:
    """Run the command; without an action it lists the weights."""
    if args.action is None:
        from emo_mm.weights import format_weights_table

        print(format_weights_table())
        return
    from emo_mm.weights import convert

    options = read_options(args, ConvertOptions)
    print(convert(options.source, options.out, options.to, options.format))
