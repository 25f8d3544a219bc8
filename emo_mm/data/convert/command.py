"""``emo-mm data convert``: a data set in another format, in a folder of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from emo_mm.data.convert.boxes import COCO, VOC, YOLO, write_boxes
from emo_mm.data.convert.masks import write_masks
from emo_mm.data.convert.options import FormatOptions
from emo_mm.data.splits import DataRequest
from emo_mm.errors import UserError

# Writes a data set into a folder, and returns lines that tell what was written.
_FORMATS: Mapping[str, Callable[[DataRequest, Path], list[str]]] = {
    'coco': partial(write_boxes, COCO),
    'yolo': partial(write_boxes, YOLO),
    'voc': partial(write_boxes, VOC),
    'masks': write_masks,
}


def convert(options: FormatOptions) -> None:
    """Write a data set in another format, and print what was written.

    Raises:
        UserError: If the source has a fault, or the target is not empty; then nothing is written.
    """
    source, target = Path(str(options.data.data_root)), Path(options.target)
    if not source.is_dir():
        raise UserError(f'{source}: no such folder; give the folder that holds the data set')
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f'{target}: is not empty; give the name of a new folder')
    try:
        target.absolute().parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f'.{target.name}.', dir=target.absolute().parent) as folder:
            made = Path(folder) / 'data'
            lines = _FORMATS[options.to](options.data, made)
            made.replace(target)
    except OSError as error:
        raise UserError(f'{target}: cannot be written ({error}); give another folder') from error
    print(*lines, sep='\n')
