"""What prediction gives for an image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emo_mm.runtime.masks import Masks


@dataclass(frozen=True)
class Detections:
    """Boxes found in a photograph, best first.

    Attributes:
        boxes: (K, 4) float32; left, top, right, bottom in pixels of the photograph.
        scores: (K,) float32, 0 to 1.
        labels: (K,) int64, indices of the classes.
        masks: The pixels of each object, of models that find them; None of others.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: Masks | None = None


@dataclass(frozen=True)
class Segmentation:
    """The class of each pixel of a photograph.

    Attributes:
        labels: (H, W), uint8 or uint16, indices of the classes.
    """

    labels: np.ndarray


@dataclass(frozen=True)
class Classification:
    """Probabilities of the classes.

    Attributes:
        probabilities: (C,) float32, which sum to 1.
    """

    probabilities: np.ndarray


Result = Detections | Segmentation | Classification
