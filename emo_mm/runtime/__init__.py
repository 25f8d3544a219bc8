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

from typing import TYPE_CHECKING

from emo_mm.lazy import lazy_names

if TYPE_CHECKING:
    from emo_mm.runtime.masks import Masks
    from emo_mm.runtime.metadata import Metadata
    from emo_mm.runtime.predictor import Outcome, Predictor
    from emo_mm.runtime.results import Classification, Detections, Result, Segmentation

__all__ = ['Classification', 'Detections', 'Masks', 'Metadata', 'Outcome', 'Predictor', 'Result', 'Segmentation']

# The description of a file can be read without NumPy.
__getattr__ = lazy_names(
    __name__,
    {
        'Classification': 'results',
        'Detections': 'results',
        'Masks': 'masks',
        'Metadata': 'metadata',
        'Outcome': 'predictor',
        'Predictor': 'predictor',
        'Result': 'results',
        'Segmentation': 'results',
    },
)
