"""The report of an instance segmenter: that of a detector, by the pixels of the objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from pycocotools import mask as mask_utils

from emo_mm.data.outlines import encoded
from emo_mm.engine.reports.base import TaskReport
from emo_mm.engine.reports.detection import boxes_of, draw_sheet, record_of, split_truth
from emo_mm.report.boxes import BoxRecord, analyse_boxes
from emo_mm.report.sheets import Boxes


def _record(sample: Mapping[str, Any]) -> BoxRecord:
    """Return the objects that were predicted in an image; the true ones follow from the data set."""
    record = record_of(sample)
    masks = np.asarray(sample['pred_instances']['masks'].cpu().numpy(), np.uint8)  # K,H,W
    outlines = tuple(mask_utils.encode(np.asfortranarray(mask)) for mask in masks)
    return replace(record, found=replace(record.found, outlines=outlines))


def _complete(records: Sequence[BoxRecord], dataset: Any) -> list[BoxRecord]:
    """Return the records with their true objects, of the data set's list, in pixels of the image."""
    infos = {info['img_path']: info for info in map(dataset.get_data_info, range(len(dataset)))}
    return [_with_truth(record, infos[record.path]) for record in records]


def _with_truth(record: BoxRecord, info: Mapping[str, Any]) -> BoxRecord:
    truth, ignored = (_objects(part, info['height'], info['width']) for part in split_truth(info['instances']))
    return replace(record, truth=truth, ignored=ignored)


def _objects(instances: Sequence[Mapping[str, Any]], height: int, width: int) -> Boxes:
    outlines = tuple(encoded(one['mask'], width, height) for one in instances)
    return replace(boxes_of(instances), outlines=outlines)


INSTANCES = TaskReport(_record, _complete, analyse_boxes, draw_sheet)
