"""Results as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from emo_mm.runtime.results import Classification, Detections, Result


def as_json(result: Result, classes: Sequence[str]) -> dict[str, Any]:
    """Return a result as plain values.

    Args:
        result: The result.
        classes: Names of the classes.

    Returns:
        ``boxes``: a list of ``box`` (left, top, right, bottom in pixels of the photograph), ``score``, ``label`` and
        ``class``, of instance segmenters ``mask`` (COCO's compressed RLE) too; of classifiers ``label``, ``class`` and
        ``probabilities``; of segmenters ``size`` (height, width) and the number of ``pixels`` of each class.
    """
    if isinstance(result, Detections):
        found = [
            {
                'box': [round(value, 3) for value in box],
                'score': round(score, 6),
                'label': label,
                'class': classes[label],
            }
            for box, score, label in zip(
                result.boxes.tolist(), result.scores.tolist(), result.labels.tolist(), strict=True
            )
        ]
        if result.masks is not None:
            found = [{**one, 'mask': result.masks.rle(index)} for index, one in enumerate(found)]
        return {'boxes': found}
    if isinstance(result, Classification):
        best = int(result.probabilities.argmax())
        values = [round(value, 6) for value in result.probabilities.tolist()]
        return {'label': best, 'class': classes[best], 'probabilities': values}
    counts = np.bincount(result.labels.reshape(-1), minlength=len(classes))  # H,W -> H*W
    return {
        'size': list(result.labels.shape),
        'pixels': {classes[label]: int(counts[label]) for label in counts.nonzero()[0]},
    }
