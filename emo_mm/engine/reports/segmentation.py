"""The report of a segmenter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emo_mm.engine.reports.base import Predicted, TaskReport
from emo_mm.report.analysis import Analysis
from emo_mm.report.label_maps import MaskRecord, analyse_masks
from emo_mm.report.sheets import segmentation_sheet
from emo_mm.runtime.colours import class_colours
from emo_mm.runtime.images import read_image


def _record(sample: Mapping[str, Any]) -> MaskRecord:
    """Return how the pixels of an image were labelled."""
    truth, found = (sample[key]['data'].squeeze(0).cpu().numpy() for key in ('gt_sem_seg', 'pred_sem_seg'))  # 1,H,W
    return MaskRecord.of(sample['img_path'], truth, found)


def _complete(records: Sequence[MaskRecord], dataset: Any) -> list[MaskRecord]:
    return list(records)


def _analyse(records: Sequence[MaskRecord], classes: Sequence[str], threshold: float | None) -> Analysis:
    return analyse_masks(records, classes)


def _sheet(predicted: Predicted, indices: Sequence[int], path: Path, title: str) -> None:
    """Predict some of the images once more, as label maps are too large to keep, and draw them."""
    dataset, classes = predicted.dataset, predicted.classes
    places = {info['img_path']: i for i, info in enumerate(map(dataset.get_data_info, range(len(dataset))))}
    samples = predicted.samples([places[predicted.records[i].path] for i in indices])
    segmentation_sheet(
        [read_image(sample.img_path) for sample in samples],
        [sample.gt_sem_seg.data.squeeze(0).cpu().numpy() for sample in samples],  # 1,H,W -> H,W
        [sample.pred_sem_seg.data.squeeze(0).cpu().numpy() for sample in samples],  # 1,H,W -> H,W
        classes,
        dataset.metainfo.get('palette') or class_colours(len(classes)),
        path,
        columns=2,
        title=title,
    )


SEGMENTATION = TaskReport(_record, _complete, _analyse, _sheet)
