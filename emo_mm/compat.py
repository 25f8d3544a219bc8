"""What differs between the OpenMMLab stacks and the versions of torch, each with its reason. Nothing else knows."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from emo_mm.errors import UserError
from emo_mm.tasks import TASKS_OF_SCOPE, nouns_of

if TYPE_CHECKING:
    pass


def register_toolbox(scope: str) -> None:
    """Import the toolbox of a config and register its modules.

    Raises:
        UserError: If the toolbox is not installed, or does not fit the installed mmcv.
    """
    if scope not in list(TASKS_OF_SCOPE):  # a value of another type may have no hash
        raise UserError(f'default_scope is {scope!r}; it must be one of {", ".join(TASKS_OF_SCOPE)}')
    try:
        with _output_to_log():
            import_module(f'{scope}.utils').register_all_modules(init_default_scope=False)
    except (ImportError, AssertionError) as error:  # the toolboxes assert on the version of mmcv
        raise UserError(
            f'{scope}, which {nouns_of(scope)} needs, cannot be imported: {error}; `emo-mm doctor` tells what to do'
        ) from error


@contextmanager
def _output_to_log() -> Iterator[None]:
    """Send to the log what toolboxes print while they are imported, such as that a data set of theirs is missing."""
    said = io.StringIO()
    try:
        with redirect_stdout(said):
            yield
    finally:
        for line in said.getvalue().splitlines():
            logging.getLogger('emo_mm').debug(line)


def quieten_coco_reader() -> None:
    """Send to the log what pycocotools prints of each annotation file that it reads, four lines a file."""
    if find_spec('pycocotools') is None:
        return
    import pycocotools.coco

    def to_log(*said: object) -> None:
        logging.getLogger('emo_mm').debug(' '.join(map(str, said)))

    pycocotools.coco.print = to_log
