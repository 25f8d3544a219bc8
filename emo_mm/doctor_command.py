"""``emo-mm doctor``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from emo_mm.arguments import Argument, add_options, read_options
from emo_mm.errors import UserError

NAME = 'doctor'
HELP = 'what is installed, whether it works, and how to fix it'


@dataclass(frozen=True)
class DoctorOptions:
    """What the command line of ``doctor`` gives.

    Attributes:
        data: Folders of data sets to check too.
        layout: Layout of these folders, where they may be read in several ways: ``coco``, ``yolo``, ``voc``, ... (an
            unknown one is answered with the list).
    """

    data: Sequence[str] = ()
    layout: str | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_options(parser, DoctorOptions, {'data': Argument(metavar='DIR')})


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from emo_mm.doctor import run_doctor

    options = read_options(args, DoctorOptions)
    if options.layout is not None and not options.data:
        raise UserError('--layout is for the folders of --data, and none is given; add --data DIR')
    return run_doctor(list(options.data), options.layout)
