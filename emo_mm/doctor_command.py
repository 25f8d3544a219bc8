"""``emo-mm doctor``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from emo_mm.arguments import Argument, add_options, read_options

NAME = 'doctor'
HELP = 'what is installed, whether it works, and how to fix it'


@dataclass(frozen=True)
class DoctorOptions:
    """What the command line of ``doctor`` gives.

    Attributes:
        data: Folders of data sets to check too.
    """

    data: Sequence[str] = ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_options(parser, DoctorOptions, {'data': Argument(metavar='DIR')})


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from emo_mm.doctor import run_doctor

    return run_doctor(list(read_options(args, DoctorOptions).data))
