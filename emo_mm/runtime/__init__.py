"""Prediction with deployed files, without torch and the OpenMMLab stack.

    from emo_mm.runtime import Predictor

    predict = Predictor('detector.onnx')
    found = predict('photograph.jpg')
    print(found.boxes, found.scores, [predict.metadata.classes[label] for label in found.labels])

It needs NumPy, Pillow and the runtime of the file, such as ONNX Runtime; which there are, and how each is installed,
:mod:`emo_mm.runtime.runtimes` tells. OpenCV is used where it is installed. Importing this package is cheap: NumPy comes
with the first name that is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emo_mm.runtime.metadata import Metadata
    from emo_mm.runtime.predictor import Outcome, Predictor
    from emo_mm.runtime.results import Classification, Detections, Result, Segmentation

__all__ = ['Classification', 'Detections', 'Metadata', 'Outcome', 'Predictor', 'Result', 'Segmentation']

_PUBLIC = {
    'Classification': 'emo_mm.runtime.results',
    'Detections': 'emo_mm.runtime.results',
    'Metadata': 'emo_mm.runtime.metadata',
    'Outcome': 'emo_mm.runtime.predictor',
    'Predictor': 'emo_mm.runtime.predictor',
    'Result': 'emo_mm.runtime.results',
    'Segmentation': 'emo_mm.runtime.results',
}


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'emo_mm.runtime' has no attribute {name!r}")
