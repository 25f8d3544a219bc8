"""The description of a deployed file: what is written is read, and nothing else is."""

from __future__ import annotations

import json

import pytest
from descriptions import classifier, detector, instance_segmenter, segmenter

from emo_mm.errors import UserError
from emo_mm.runtime.metadata import MaskSpec, Metadata, OutputSpec

ALL = [
    detector(),
    *[instance_segmenter(kind) for kind in ('instances', 'masks', 'roi_masks')],
    segmenter(),
    classifier(palette=()),
]


@pytest.mark.parametrize('metadata', ALL, ids=lambda m: m.output.kind)
def test_a_description_survives_its_json(metadata):
    assert Metadata.from_json(metadata.to_json()) == metadata


@pytest.mark.parametrize('metadata', [detector(), segmenter(), classifier()], ids=lambda m: m.task)
def test_a_description_of_before_is_read(metadata):
    data = json.loads(metadata.to_json())
    del data['masks'], data['display_threshold']
    assert Metadata.from_json(json.dumps(data)) == metadata


@pytest.mark.parametrize(
    ('make', 'said'),
    [
        (lambda: instance_segmenter(masks=None), 'masks is None; it must be given for instance segmenters only'),
        (lambda: detector(masks=MaskSpec(0.5, None)), 'given for instance segmenters only'),
        (lambda: segmenter(masks=MaskSpec(0.5, None)), 'given for instance segmenters only'),
        (lambda: instance_segmenter(masks=MaskSpec(0.5, None)), 'masks.channels is False'),
        (lambda: instance_segmenter('masks', masks=MaskSpec(0.5, 8)), 'masks.channels is True'),
        (lambda: instance_segmenter('roi_masks', masks=MaskSpec(0.5, 8)), 'given with kernels only'),
        (lambda: instance_segmenter(nms=None), 'nms is None'),
        (lambda: instance_segmenter(output=detector().output), 'instances or masks or roi_masks with ins'),
        (lambda: detector(output=instance_segmenter().output), 'boxes or detections with det'),
        (lambda: MaskSpec(1.0, None), 'masks.threshold is 1.0; it must be between 0 and 1'),
        (lambda: MaskSpec(float('nan'), None), 'masks.threshold is nan'),
        (lambda: MaskSpec(0.5, 0), 'masks.channels is 0'),
        (lambda: OutputSpec('instances', ('b', 's'), None), '4 or 5 names with kind instances'),
        (lambda: OutputSpec('masks', ('b', 'l', 'm', 'x'), None), '3 names with kind masks'),
        (lambda: instance_segmenter(output=OutputSpec('instances', tuple('bskp'), None)), 'it must be 5 names'),
        (lambda: instance_segmenter(output=OutputSpec('instances', tuple('bskpl'), (6, 2))), 'it must be 4 names'),
    ],
)
def test_what_does_not_belong_together_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_integers_are_read_where_numbers_are_meant():
    data = json.loads(detector().to_json())
    data['preprocessing']['mean'] = [0, 0, 0]
    assert Metadata.from_json(json.dumps(data)).preprocessing.mean == (0.0, 0.0, 0.0)


def changed(path: str, value: object) -> str:
    data = json.loads(detector().to_json())
    *parents, last = path.split('.')
    place = data
    for key in parents:
        place = place[key]
    place[last] = value
    return json.dumps(data)


@pytest.mark.parametrize(
    ('path', 'value', 'said'),
    [
        ('input.width', 10**9, 'input.width is 1000000000'),
        ('input.batch', 0, 'input.batch is 0'),
        ('input.batch', True, 'input.batch is of type bool'),
        ('input.height', '48', 'input.height is of type str'),
        ('input.layout', 'CHWN', 'must be one of NCHW, NHWC'),
        ('input.name', '', 'input.name'),
        ('input', [], 'input is of type list'),
        ('input.extra', 1, 'input has an unknown key extra'),
        ('preprocessing.scale', [10**9, 1], 'preprocessing.scale is 1000000000'),
        ('preprocessing.scale', [64], 'preprocessing.scale has 1 items'),
        ('preprocessing.pad_divisor', 10**9, 'preprocessing.pad_divisor'),
        ('preprocessing.std', [0.0, 1.0, 1.0], 'preprocessing.std'),
        ('preprocessing.mean', [float('nan'), 1.0, 1.0], 'preprocessing.mean is nan'),
        ('preprocessing.mean', [10**400, 1.0, 1.0], 'too large'),
        ('output.names', ['boxes'], 'output.names'),
        ('output.kind', 'poses', 'must be one of boxes, detections'),
        ('output.levels', [10**9], 'output.levels'),
        ('output.levels', None, 'output.names'),
        ('nms', None, 'nms'),
        ('nms.iou_threshold', -1, 'nms.iou_threshold'),
        ('nms.max_per_image', 10**12, 'nms.max_per_image'),
        ('classes', [], 'classes'),
        ('palette', [[0, 0, 300], [0, 0, 0]], 'palette'),
        ('format_version', 2, 'update emo_mm'),
        ('task', 'pose', 'task'),
    ],
)
def test_what_is_out_of_reason_is_refused_by_name(path, value, said):
    with pytest.raises(UserError, match=r'^model\.onnx: ') as error:
        Metadata.from_json(changed(path, value), 'model.onnx')
    assert said in str(error.value)
    assert len(str(error.value)) < 500


def test_a_missing_key_is_named():
    data = json.loads(detector().to_json())
    del data['input']['dtype']
    with pytest.raises(UserError, match='input has no key dtype'):
        Metadata.from_json(json.dumps(data))


@pytest.mark.parametrize('text', ['', 'null', '[]', '{', '[' * 100_000, '7'])
def test_other_texts_are_refused(text):
    with pytest.raises(UserError, match='cannot be used'):
        Metadata.from_json(text)
