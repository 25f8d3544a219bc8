"""What a task adds to a report: how its predictions are recorded, analysed and drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from mmengine.model import BaseModel

from emo_mm.report.analysis import Analysis


@dataclass(frozen=True)
class Predicted:
    """A data set that was predicted whole.

    Attributes:
        dataset: The data set, as the toolbox built it.
        model: The model, with the weights that predicted.
        records: A record per image, as the task makes them.
        threshold: Score from which on boxes are drawn; None for the task's own.
    """

    dataset: Any
    model: BaseModel
    records: Sequence[Any]
    threshold: float | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names in label order."""
        return tuple(map(str, self.dataset.metainfo['classes']))

    def spread(self, most: int) -> list[int]:
        """Return the indices of at most so many records, evenly spread."""
        size = len(self.records)
        return np.linspace(0, size - 1, min(most, size)).round().astype(int).tolist()

    def samples(self, indices: Sequence[int]) -> list[Any]:
        """Return the data samples of some images of the data set, with truth and prediction, one at a time."""
        self.model.eval()
        with torch.no_grad():
            return [self.model.test_step(pseudo_collate([self.dataset[i]]))[0] for i in indices]


@dataclass(frozen=True)
class TaskReport:
    """The functions of a task.

    Attributes:
        record: Makes a record of a data sample (as MMEngine hands it to metrics, a dict) with a prediction.
        complete: Adds to the records what the data set alone knows.
        analyse: Returns what the records show; given the classes, and the score threshold that was chosen before, if
            any.
        sheet: Draws some of the images (by the indices of their records), with a title, into a file.
        sheet_images: Images of a sheet that shows what the predictions are like.
    """

    record: Callable[[Mapping[str, Any]], Any]
    complete: Callable[[Sequence[Any], Any], list[Any]]
    analyse: Callable[[Sequence[Any], Sequence[str], float | None], Analysis]
    sheet: Callable[[Predicted, Sequence[int], Path, str], None]
    sheet_images: int = 12
