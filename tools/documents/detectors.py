"""Detectors with random weights that find something, and how alike the boxes of two of them are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from emo_mm.config.build import build_from_config
from emo_mm.predict.describe import preprocessing_of
from emo_mm.runtime import Detections
from emo_mm.runtime.images import read_image
from emo_mm.runtime.preprocess import prepare

if TYPE_CHECKING:
    from mmengine.config import Config

BOX_TOLERANCE = 1e-3  # pixels
SCORE_TOLERANCE = 1e-4
_LOGIT_SPREAD = 2.0  # standard deviation that gives random weights scores on both sides of a threshold


def random_detector(cfg: Config, images: Sequence[str], seed: int = 0) -> dict[str, torch.Tensor]:
    """Return random weights of a detector that finds something in photographs.

    Args:
        cfg: The config.
        images: Photographs to scale by.
        seed: Of the random numbers.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_from_config(cfg)
        spread_scores(model, cfg, images)
    return {key: value.clone() for key, value in model.state_dict().items()}


@torch.inference_mode()
def spread_scores(model: Any, cfg: Config, images: Sequence[str]) -> None:
    """Scale the last layers of a detector's classifier so that its logits spread.

    Untrained ones are all alike, and so are their scores, whose order would be random.

    Args:
        model: The detector.
        cfg: Its config.
        images: Photographs to scale by.
    """
    how = preprocessing_of(cfg)
    head = model.bbox_head
    logits = []
    for path in images:
        pixels = torch.from_numpy(prepare(read_image(path), how).pixels.copy()).float()
        normal = (pixels - torch.tensor(how.mean)) / torch.tensor(how.std)
        scores, _ = head(model.extract_feat(normal.permute(2, 0, 1)[None]))  # h,w,3 -> 1,3,h,w
        logits.append(torch.cat([level.flatten() for level in scores]))
    scale = _LOGIT_SPREAD / torch.cat(logits).std()
    for name, parameter in model.named_parameters():
        if name.startswith(('bbox_head.cls_convs', 'bbox_head.retina_cls')) and _is_last(head, name, parameter):
            parameter.mul_(scale)


def matched_share(ours: Sequence[Detections], theirs: Sequence[Detections]) -> float:
    """Return the share of boxes, of both, that have a partner of the same class within the tolerances."""
    alike = total = 0
    for one, other in zip(ours, theirs, strict=True):
        # pairs (K, L)
        near = np.abs(one.boxes[:, None] - other.boxes[None]).max(-1, initial=0) <= BOX_TOLERANCE
        near &= np.abs(one.scores[:, None] - other.scores[None]) <= SCORE_TOLERANCE
        near &= one.labels[:, None] == other.labels[None]
        alike += int(near.any(1).sum() + near.any(0).sum())
        total += sum(near.shape)
    return alike / total if total else 1.0


def _is_last(head: Any, name: str, parameter: torch.Tensor) -> bool:
    """Tell a parameter of the last layer of a classifier by its number of outputs: anchors x classes."""
    return parameter.shape[0] in {count * head.cls_out_channels for count in head.prior_generator.num_base_priors}
