"""A graph that does not give what its description promises is refused, before wrong results are made of it."""

from __future__ import annotations

import numpy as np
import pytest
from deployed_files import BOXES, LOGITS, write_onnx
from descriptions import classifier, detector, segmenter

from emo_mm.errors import UserError
from emo_mm.runtime import Predictor
from emo_mm.runtime.metadata import OutputSpec
from emo_mm.runtime.output_check import check_outputs

SIZE = (64, 48)
SCORES = np.full(LOGITS.shape, 0.5, np.float32)
AFTER_NMS = detector(output=OutputSpec('detections', ('boxes', 'labels'), None))
FOUND = np.zeros((1, 3, 5), np.float32)


@pytest.mark.parametrize(
    ('metadata', 'outputs'),
    [
        (detector(), [BOXES[None], SCORES[None]]),
        (AFTER_NMS, [FOUND, np.array([[1, 0, -1]])]),
        (segmenter('labels'), [np.ones((1, 48, 64), np.int64)]),
        (segmenter('logits'), [np.ones((1, 2, 6, 8), np.float16)]),
        (classifier(), [np.ones((1, 2), np.float32)]),
    ],
    ids=lambda value: value.output.kind if hasattr(value, 'output') else '',
)
def test_what_is_promised_passes(metadata, outputs):
    check_outputs(outputs, 1, SIZE, metadata)


@pytest.mark.parametrize(
    ('metadata', 'outputs', 'said'),
    [
        (detector(classes=('cat',), palette=()), [BOXES[None], SCORES[None]], 'numbers of 1 x 8 x 1'),
        (detector(output=OutputSpec('boxes', ('b', 's'), (6, 3))), [BOXES[None], SCORES[None]], 'numbers of 1 x 9 x 4'),
        (detector(), [SCORES[None], BOXES[None]], 'gives boxes as float32 of 1 x 8 x 2'),
        (detector(), [BOXES[None], SCORES[None] * np.nan], 'gives scores that are not finite'),
        (AFTER_NMS, [FOUND, np.array([[2, 0, 0]])], 'gives the label 2, and there are 2 classes'),
        (AFTER_NMS, [FOUND, np.zeros((1, 3), np.float32)], 'labels as float32'),
        (segmenter('labels'), [np.ones((1, 64, 48), np.int64)], 'whole numbers of 1 x 48 x 64'),
        (segmenter('labels'), [np.full((1, 48, 64), 7)], 'gives the label 7'),
        (segmenter('labels'), [np.full((1, 48, 64), -1)], 'gives the label -1'),
        (segmenter('logits'), [np.ones((1, 3, 6, 8), np.float32)], 'numbers of 1 x 2 x any x any'),
        (classifier(), [np.ones((2, 2), np.float32)], 'numbers of 1 x 2'),
        (classifier(), [np.array([[np.inf, 0]])], 'not finite'),
    ],
)
def test_anything_else_is_refused(metadata, outputs, said):
    with pytest.raises(UserError, match=said):
        check_outputs(outputs, 1, SIZE, metadata)


def test_prediction_tells_it(tmp_path):
    pytest.importorskip('onnxruntime')
    path = write_onnx(tmp_path / 'cls.onnx', classifier(classes=('cat', 'dog', 'owl'), palette=()))
    with pytest.raises(UserError, match='its description has numbers of 1 x 3'):
        Predictor(path)(np.zeros((48, 64, 3), np.uint8))
