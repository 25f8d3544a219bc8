"""The report of a detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from emo_mm.engine.reports.base import Predicted, TaskReport
from emo_mm.report.boxes import BoxRecord, analyse_boxes
from emo_mm.report.sheets import Boxes, detection_sheet
from emo_mm.runtime.images import read_image

Instances = Sequence[Mapping[str, Any]]
_NONE = Boxes(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))


def record_of(sample: Mapping[str, Any]) -> BoxRecord:
    """Return the predicted boxes of an image; its true ones follow from the data set."""
    found = sample['pred_instances']
    boxes, labels, scores = (found[key].cpu().numpy() for key in ('bboxes', 'labels', 'scores'))
    return BoxRecord(sample['img_path'], _NONE, _NONE, Boxes(boxes.reshape(-1, 4), labels, scores))


def _complete(records: Sequence[BoxRecord], dataset: Any) -> list[BoxRecord]:
    """Return the records with their true boxes.

    These are taken from the data set's list, in pixels of the image: a pipeline may scale those of the samples or not.
    """
    infos = {info['img_path']: info for info in map(dataset.get_data_info, range(len(dataset)))}
    return [_with_truth(record, infos[record.path]['instances']) for record in records]


def _with_truth(record: BoxRecord, instances: Instances) -> BoxRecord:
    truth, ignored = split_truth(instances)
    return replace(record, truth=boxes_of(truth), ignored=boxes_of(ignored))


def split_truth(instances: Instances) -> tuple[Instances, Instances]:
    """Return the objects of an image in a data set's list that count, and those that are neither hits nor mistakes."""
    ignored = [one for one in instances if one.get('ignore_flag')]
    return [one for one in instances if not one.get('ignore_flag')], ignored


def boxes_of(instances: Instances) -> Boxes:
    """Return the boxes of objects in a data set's list."""
    corners = np.array([one['bbox'] for one in instances], dtype=np.float32).reshape(-1, 4)
    return Boxes(corners, np.array([one['bbox_label'] for one in instances], dtype=np.int64))


def draw_sheet(predicted: Predicted, indices: Sequence[int], path: Path, title: str) -> None:
    """Draw truth and prediction of some images into a file."""
    chosen: list[BoxRecord] = [predicted.records[i] for i in indices]
    detection_sheet(
        [read_image(record.path) for record in chosen],
        [record.truth for record in chosen],
        [record.found for record in chosen],
        predicted.classes,
        path,
        columns=3,
        score_thr=0.3 if predicted.threshold is None else predicted.threshold,
        title=title,
    )


DETECTION = TaskReport(record_of, _complete, analyse_boxes, draw_sheet)
