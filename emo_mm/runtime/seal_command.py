"""``emo-mm seal``."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from emo_mm.arguments import Argument, add_options, read_options

NAME = 'seal'
HELP = 'accept an exported file that another tool changed'


@dataclass(frozen=True)
class SealOptions:
    """What the command line of ``seal`` gives.

    Attributes:
        file: The file, whose checksum is written anew.
    """

    file: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_options(parser, SealOptions, {'file': Argument(metavar='FILE')})


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from emo_mm.errors import UserError
    from emo_mm.runtime.runtimes import RUNTIMES, runtime_of
    from emo_mm.runtime.seal import seal

    file = read_options(args, SealOptions).file
    runtime = runtime_of(file)
    if runtime is None or runtime.checksum == 'own':
        known = ', '.join(row.suffix for row in RUNTIMES.values() if row.checksum != 'own')
        raise UserError(f'{file}: is no file that has a checksum of ours ({known})')
    seal(file)
    print(f'{file}: its checksum is that of the file as it is now')
