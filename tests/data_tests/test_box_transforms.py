"""SSD's augmentation gives the same random numbers, pixels and boxes as mmdet's own transforms."""

import numpy as np
import pytest
from mmdet.datasets import transforms as mmdet_transforms
from mmdet.structures.bbox import HorizontalBoxes

from emo_mm.config.names import get_config
from emo_mm.data.speed.box_transforms import Expand, MinIoURandomCrop

pytestmark = pytest.mark.toolbox

MEAN = [123.675, 116.28, 103.53]


def sample(seed, boxes=5, dtype=np.uint8):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(60, 160, 2)
    corners = rng.uniform(0, 0.7, (boxes, 2)) * (width, height)
    sizes = rng.uniform(0.02, 0.3, (boxes, 2)) * (width, height)
    return {
        'img': rng.integers(0, 256, (height, width, 3)).astype(dtype),
        'img_shape': (height, width),
        'gt_bboxes': HorizontalBoxes(np.concatenate([corners, corners + sizes], axis=1).astype(np.float32)),
        'gt_bboxes_labels': np.arange(boxes),
        'gt_ignore_flags': np.zeros(boxes, dtype=bool),
    }


def run(chain, seed, **kind):
    np.random.seed(seed)  # noqa: NPY002 - mmdet's transforms draw from it
    results = sample(seed, **kind)
    for transform in chain:
        results = transform(results)
    return results, np.random.random()  # noqa: NPY002 - the next number, as a trace of all that were drawn


def assert_same(first, second):
    (results, drawn), (expected, expected_drawn) = first, second
    assert drawn == expected_drawn
    assert results.keys() == expected.keys()
    assert results['img'].dtype == expected['img'].dtype
    np.testing.assert_array_equal(results['img'], expected['img'])
    assert results['img_shape'] == expected['img_shape']
    assert type(results['gt_bboxes']) is type(expected['gt_bboxes']) is HorizontalBoxes
    np.testing.assert_array_equal(results['gt_bboxes'].numpy(), expected['gt_bboxes'].numpy())
    np.testing.assert_array_equal(results['gt_bboxes_labels'], expected['gt_bboxes_labels'])


@pytest.mark.parametrize('kind', [{}, {'dtype': np.float32}, {'boxes': 0}])
def test_expanding_and_cropping_gives_what_mmdet_gives(kind):
    settings = dict(mean=MEAN, to_rgb=True, ratio_range=(1, 4))
    ours, theirs = (
        [module.Expand(**settings), module.MinIoURandomCrop(min_crop_size=0.3)]
        for module in (type('ours', (), {'Expand': Expand, 'MinIoURandomCrop': MinIoURandomCrop}), mmdet_transforms)
    )
    shapes = set()
    for seed in range(60):
        expected = run(theirs, seed, **kind)
        assert_same(run(ours, seed, **kind), expected)
        shapes.add(expected[0]['img_shape'])
    assert len(shapes) > 40  # the draws differ, so the comparison saw many canvases and crops


def test_boxes_given_as_arrays_stay_arrays():
    results = sample(3)
    results['gt_bboxes'] = results['gt_bboxes'].numpy()
    np.random.seed(3)  # noqa: NPY002
    for transform in (Expand(mean=MEAN, prob=1.0), MinIoURandomCrop()):
        results = transform(results)
    assert isinstance(results['gt_bboxes'], np.ndarray)


def test_a_map_of_classes_is_expanded_too():
    results = sample(0)
    results['gt_seg_map'] = np.zeros(results['img_shape'], np.uint8)
    expanded = Expand(mean=MEAN, prob=1.0, ratio_range=(2, 2), seg_ignore_label=255)(results)
    assert expanded['gt_seg_map'].shape == expanded['img'].shape[:2]
    assert (expanded['gt_seg_map'] == 255).mean() > 0.7


@pytest.mark.parametrize('name', ['ssdlite_emo_2m_coco', 'ssdlite_emo_1m_demo'])
def test_the_recipes_take_them(name):
    data = get_config(name).train_dataloader.dataset
    kinds = [step['type'] for step in data.get('dataset', data).pipeline]
    assert 'emo_mm.MinIoURandomCrop' in kinds
    assert 'MinIoURandomCrop' not in kinds
    assert 'Expand' not in kinds
