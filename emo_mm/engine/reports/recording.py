"""Predictions of a whole data set, kept image by image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from mmengine.dist import broadcast
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.model import BaseModel
from torch.utils.data import DataLoader


class Recorder(BaseMetric):
    """A metric that computes nothing and keeps what was predicted, from all processes.

    Args:
        record: Makes a record of a data sample.

    Attributes:
        records: What was kept, on the main process, once the evaluation is over.
        failed: Why a sample could not be recorded; empty if all could be.
    """

    def __init__(self, record: Callable[[Mapping[str, Any]], Any]) -> None:
        super().__init__(prefix='report')  # MMEngine warns of metrics without one
        self._record = record
        self.records: list[Any] = []
        self.failed = ''

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the predictions of a batch."""
        for sample in data_samples:
            try:
                self.results.append(self._record(sample))
            except (KeyError, ValueError, AttributeError, IndexError, TypeError) as error:
                # data of a kind that no recipe of ours has, such as several labels per image
                self.failed = self.failed or f'{type(error).__name__}: {error}'
                self.results.append(None)

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Keep the records of all processes, and compute nothing."""
        self.records = results
        return {}


def predict_all(model: BaseModel, loader: DataLoader, evaluator: Evaluator, recorder: Recorder) -> dict[str, float]:
    """Predict a data set once, in all processes together.

    Args:
        model: The model, without a data-parallel wrapper.
        loader: The data set's loader, which gives each process its share.
        evaluator: Metrics to compute.
        recorder: What keeps the predictions.

    Returns:
        The metrics.
    """
    together = Evaluator([*evaluator.metrics, recorder])
    together.dataset_meta = loader.dataset.metainfo  # type: ignore[attr-defined]
    model.eval()
    with torch.no_grad():
        for batch in loader:
            together.process(model.val_step(batch), batch)
    return together.evaluate(len(loader.dataset))  # type: ignore[arg-type]


def share_weights(model: BaseModel) -> None:
    """Give all processes the weights of the first."""
    for value in model.state_dict().values():
        broadcast(value, src=0)
