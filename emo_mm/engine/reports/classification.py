"""The report of a classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emo_mm.engine.reports.base import Predicted, TaskReport
from emo_mm.report.analysis import Analysis
from emo_mm.report.labels import LabelRecord, analyse_labels
from emo_mm.report.sheets import classification_sheet
from emo_mm.runtime.images import read_image


def _record(sample: Mapping[str, Any]) -> LabelRecord:
    """Return what an image was taken for."""
    scores = sample['pred_score']  # shape (classes,)
    (truth,) = sample['gt_label'].tolist()
    found = int(scores.argmax())
    rank = int((scores > scores[truth]).sum())
    return LabelRecord(sample['img_path'], truth, found, float(scores[found]), rank)


def _complete(records: Sequence[LabelRecord], dataset: Any) -> list[LabelRecord]:
    return list(records)


def _analyse(records: Sequence[LabelRecord], classes: Sequence[str], threshold: float | None) -> Analysis:
    return analyse_labels(records, classes)


def _sheet(predicted: Predicted, indices: Sequence[int], path: Path, title: str) -> None:
    chosen: list[LabelRecord] = [predicted.records[i] for i in indices]
    classification_sheet(
        [read_image(record.path) for record in chosen],
        [record.truth for record in chosen],
        [record.found for record in chosen],
        [record.score for record in chosen],
        predicted.classes,
        path,
        title=title,
    )


CLASSIFICATION = TaskReport(_record, _complete, _analyse, _sheet, sheet_images=36)
