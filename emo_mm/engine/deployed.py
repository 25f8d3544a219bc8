"""Deployed files under the toolbox's own evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.model import BaseModel
from mmengine.structures import InstanceData, PixelData

from emo_mm.registry import MODELS
from emo_mm.runtime import Predictor
from emo_mm.runtime.metadata import Metadata
from emo_mm.runtime.results import Classification, Detections, Segmentation


@MODELS.register_module()
class DeployedModel(BaseModel):
    """A deployed file in the place of a model, for tests only.

    It reads the image files itself, with its own preprocessing, so that what is evaluated is what will run; of the
    test pipeline's work it uses the truth.

    Args:
        path: The file.
        batch_size: Images that the network gets at once.
        finds_outlines: Whether it finds the pixels of objects; whoever reads the config can tell by it.

    Raises:
        UserError: If the file cannot be used.
    """

    def __init__(self, path: str | Path, batch_size: int = 1, finds_outlines: bool = False) -> None:
        super().__init__()
        self.predictor = Predictor(path, batch_size)
        self.finds_outlines = finds_outlines

    def forward(self, inputs: Any, data_samples: Any = None, mode: str = 'predict') -> Any:
        """Refuse: there are no tensors to compute with."""
        raise NotImplementedError('a deployed file predicts image files: use test_step')

    def test_step(self, data: Mapping[str, Any]) -> list[Any]:
        """Predict a batch.

        Args:
            data: ``data_samples`` with the paths of the images.

        Returns:
            The data samples with the predictions in them, where the metrics look.
        """
        samples = data['data_samples']
        results = self.predictor([sample.img_path for sample in samples])
        for sample, result in zip(samples, results, strict=True):
            _PUT[type(result)](sample, result)
        return samples


@lru_cache(maxsize=1)
def description_of(path: str) -> Metadata:
    """Return what a deployed file says about itself.

    Raises:
        UserError: If the file cannot be used.
    """
    return Predictor(path).metadata


def _put_boxes(sample: Any, found: Detections) -> None:
    # the copies: arrays of the predictor may be views of a batch
    boxes, scores, labels = (torch.tensor(x) for x in (found.boxes, found.scores, found.labels))
    sample.pred_instances = InstanceData(bboxes=boxes, scores=scores, labels=labels)
    if found.masks is not None:
        sample.pred_instances.masks = torch.from_numpy(np.asarray(found.masks))  # K,H,W


def _put_labels(sample: Any, found: Segmentation) -> None:
    sample.pred_sem_seg = PixelData(data=torch.tensor(found.labels.astype('int64'))[None])  # H,W -> 1,H,W


def _put_probabilities(sample: Any, found: Classification) -> None:
    scores = torch.tensor(found.probabilities)
    sample.set_pred_score(scores).set_pred_label(scores.argmax())


_PUT: dict[type, Callable[[Any, Any], None]] = {
    Detections: _put_boxes,
    Segmentation: _put_labels,
    Classification: _put_probabilities,
}
