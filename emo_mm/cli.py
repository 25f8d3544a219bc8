"""The command line: ``emo-mm COMMAND``.

Each command is a module in the room that it calls, and a row of the table ``COMMANDS``.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from typing import Protocol

from emo_mm import doctor_command
from emo_mm.benchmark import command as benchmark_command
from emo_mm.benchmark import flops_command
from emo_mm.config import command as list_command
from emo_mm.data import command as data_command
from emo_mm.engine import test_command, train_command
from emo_mm.errors import MismatchError, UserError, printable
from emo_mm.export import command as export_command
from emo_mm.predict import command as predict_command
from emo_mm.predict import merge_command
from emo_mm.runtime import seal_command
from emo_mm.serve import command as serve_command
from emo_mm.tasks import TASKS_OF_SCOPE
from emo_mm.version import __version__
from emo_mm.weights import command as weights_command


class Command(Protocol):
    """A module that is a command. Importing it must be cheap: its functions import what they need.

    Attributes:
        NAME: What is typed after ``emo-mm``.
        HELP: What it does, in a line.
    """

    NAME: str
    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add its arguments to its parser."""

    def run(self, args: argparse.Namespace) -> int | None:
        """Run it; return the exit code, 0 if None."""


# In the order of the help.
COMMANDS: tuple[Command, ...] = (
    list_command,
    doctor_command,
    train_command,
    test_command,
    export_command,
    predict_command,
    merge_command,
    serve_command,
    seal_command,
    data_command,
    weights_command,
    benchmark_command,
    flops_command,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: Arguments after the program's name; those of the process if None.

    Returns:
        The exit code: 0, or 1 where the user has something to fix. Wrong usage exits with 2.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors='backslashreplace')  # names of files need not be texts
    words = sys.argv[1:] if argv is None else argv
    args = _parser(words).parse_args(words)
    # OpenCV, imported later, refuses images of more pixels than Pillow does; its own limit would let 3 GB through.
    os.environ.setdefault('OPENCV_IO_MAX_IMAGE_PIXELS', str(2 * 89_478_485))
    try:
        return args.run(args) or 0
    except UserError as error:
        print(f'error: {error.without_advice if isinstance(error, MismatchError) else error}', file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        needed = (error.name or '').split('.')[0]
        if needed not in _WITH_A_STACK:
            raise
        print(
            f"error: emo-mm {args.command} needs {needed}, which is not installed: pip install 'emo-mm[onedl]'",
            file=sys.stderr,
        )
        return 1
    except BrokenPipeError:  # whoever read the output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # a folder that may not be written, a full disk
        print(f'error: {printable(str(error))}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        return 130


# What the extras of the stacks bring and the bare package does without.
_WITH_A_STACK = {
    *('torch', 'torchvision', 'mmengine', 'mmcv', *TASKS_OF_SCOPE),
    *('cv2', 'matplotlib', 'filelock', 'safetensors', 'pycocotools'),
}


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser of a command line; of its commands only the one that is called knows its arguments."""
    parser = argparse.ArgumentParser(prog='emo-mm', description='EMO backbones for OpenMMLab.')
    parser.add_argument('--version', action='version', version=f'emo-mm {__version__}')
    parsers = parser.add_subparsers(metavar='COMMAND', dest='command', required=True)
    called = next((word for word in words if not word.startswith('-')), None)
    for command in COMMANDS:
        its_parser = parsers.add_parser(command.NAME, help=command.HELP, description=command.HELP)
        its_parser.set_defaults(run=command.run)
        if called == command.NAME:
            command.add_arguments(its_parser)
    return parser


if __name__ == '__main__':
    sys.exit(main())
