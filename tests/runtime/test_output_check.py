"""A graph that does not give what its description promises is refused, before wrong results are made of it."""

from __future__ import annotations

import numpy as np
import pytest
from deployed_files import BOXES, KERNELS, LOGITS, PROTOTYPES, write_onnx
from descriptions import classifier, detector, instance_segmenter, segmenter

from emo_mm.errors import UserError
from emo_mm.runtime import Predictor
from emo_mm.runtime.metadata import MaskSpec, OutputSpec
from emo_mm.runtime.output_check import check_outputs

SIZE = (64, 48)
SCORES = np.full(LOGITS.shape, 0.5, np.float32)
AFTER_NMS = detector(output=OutputSpec('detections', ('boxes', 'labels'), None))
FOUND = np.zeros((1, 3, 5), np.float32)
LABELS = np.array([[1, 0, -1]])
ANCHORS = [BOXES[None], SCORES[None], KERNELS[None]]
BY_KERNELS = [*ANCHORS, PROTOTYPES[None]]
BY_LEVEL = instance_segmenter(output=OutputSpec('instances', ('b', 's', 'k', 'p', 'l'), None))
MAPS = np.zeros((1, 3, 7, 7), np.float32)


@pytest.mark.parametrize(
    ('metadata', 'outputs'),
    [
        (detector(), [BOXES[None], SCORES[None]]),
        (AFTER_NMS, [FOUND, LABELS]),
        (instance_segmenter(), BY_KERNELS),
        (BY_LEVEL, [*BY_KERNELS, np.array([0] * 6 + [1] * 2)]),
        (instance_segmenter('masks'), [FOUND, LABELS, MAPS]),
        (instance_segmenter('roi_masks'), [FOUND[:, :0], LABELS[:, :0], MAPS[:, :0]]),
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
        (instance_segmenter(), [*ANCHORS, PROTOTYPES], 'gives prototypes as float32 of 1 x 6 x 8'),
        (instance_segmenter(), [*ANCHORS[:2], KERNELS[None, :7], PROTOTYPES[None]], 'gives kernels as .* 1 x 8 x any'),
        (instance_segmenter(), [*ANCHORS, PROTOTYPES[None] * np.inf], 'gives prototypes that are not finite'),
        (instance_segmenter(), [*ANCHORS, PROTOTYPES[None, :, :0]], 'gives prototypes without pixels; export it again'),
        (
            instance_segmenter(),
            [*ANCHORS, PROTOTYPES[None].repeat(2, 1)],
            'gives kernels whose 11 parameters are not those of layers of 2 channels over 4 inputs; export it again',
        ),
        (instance_segmenter(masks=MaskSpec(0.5, 3)), BY_KERNELS, 'not those of layers of 3 channels over 3 inputs'),
        (BY_LEVEL, [*BY_KERNELS, np.array([1] * 6 + [0] * 2)], 'gives levels that do not ascend'),
        (instance_segmenter('masks'), [FOUND, LABELS, MAPS[:, :2]], 'gives masks as .* of 1 x 3 x any x any'),
        (instance_segmenter('masks'), [FOUND, LABELS, MAPS[..., :0]], 'gives masks without pixels'),
        (instance_segmenter('roi_masks'), [FOUND, LABELS, MAPS > 0], 'gives masks as bool'),
        (instance_segmenter('roi_masks'), [FOUND, LABELS + 1, MAPS], 'gives the label 2, and there are 2 classes'),
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


def test_prediction_tells_of_kernels_that_fit_no_layers(tmp_path):
    pytest.importorskip('onnxruntime')
    path = write_onnx(tmp_path / 'ins.onnx', instance_segmenter(masks=MaskSpec(0.5, 8)))
    with pytest.raises(UserError, match='11 parameters are not those of layers of 8 channels') as error:
        Predictor(path)(np.zeros((48, 64, 3), np.uint8))
    assert '\n' not in str(error.value)
