"""``emo-mm list``."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from emo_mm.arguments import add_options, read_options
from emo_mm.tasks import TaskName

NAME = 'list'
HELP = 'the configs by name, with what their authors published'


@dataclass(frozen=True)
class ListOptions:
    """What the command line of ``list`` gives.

    Attributes:
        task: List the configs of one task: detection, segmentation or classification. None lists all.
        paths: Print the paths of the config files, as the toolboxes take them, instead of the table.
    """

    task: TaskName | None = None
    paths: bool = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_options(parser, ListOptions)


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    options = read_options(args, ListOptions)
    if options.paths:
        from emo_mm.config.names import find_config, list_models

        print('\n'.join(str(find_config(name)) for name in list_models(options.task)))
        return
    from emo_mm.config.catalog import format_models_table

    print(format_models_table(options.task))
