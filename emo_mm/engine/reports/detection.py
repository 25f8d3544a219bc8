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

_NONE = Boxes(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))


def _record(sample: Mapping[str, Any]) -> BoxRecord:
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


def _with_truth(record: BoxRecord, instances: Sequence[Mapping[str, Any]]) -> BoxRecord:
    ignored = [one for one in instances if one.get('ignore_flag')]
    truth = [one for one in instances if not one.get('ignore_flag')]
    return replace(record, truth=_boxes(truth), ignored=_boxes(ignored))


def _boxes(instances: Sequence[Mapping[str, Any]]) -> Boxes:
    corners = np.array([one['bbox'] for one in instances], dtype=np.float32).reshape(-1, 4)
    return Boxes(corners, np.array([one['bbox_label'] for one in instances], dtype=np.int64))


def _sheet(predicted: Predicted, indices: Sequence[int], path: Path, title: str) -> None:
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


DETECTION = TaskReport(_record, _complete, analyse_boxes, _sheet)
