"""Preprocessing gives the pixels that the toolboxes' pipelines give."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from descriptions import STRETCH, classifier, detector

import emo_mm.runtime.preprocess as preprocess
from emo_mm.errors import UserError
from emo_mm.runtime.metadata import InputSpec
from emo_mm.runtime.preprocess import input_size, make_batch, prepare, resize_image

SIZES = [(427, 640), (640, 427), (333, 500), (120, 90), (31, 300)]
CONFIGS = [
    'ssdlite_emo_1m_coco',
    'retinanet_emo_1m_coco',
    'deeplabv3_emo_1m_demo',
    'pspnet_emo_1m_ade20k',
    'emo_1m_demo',
    'emo_1m_imagenet',
]


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.toolbox
@pytest.mark.parametrize('name', CONFIGS)
def test_images_reach_the_network_as_through_the_toolbox(name):
    import torch
    from mmengine.registry import MODELS, TRANSFORMS, DefaultScope

    from emo_mm.compat import register_toolbox
    from emo_mm.config.names import get_config
    from emo_mm.predict.describe import preprocessing_of

    cfg = get_config(name)
    register_toolbox(cfg.default_scope)
    how = preprocessing_of(cfg)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        pipeline = cfg.test_dataloader.dataset.pipeline
        steps = [TRANSFORMS.build(step) for step in pipeline if step.type in ('Resize', 'ResizeEdge', 'CenterCrop')]
        to_input = MODELS.build(cfg.model.data_preprocessor)
    metadata = detector(preprocessing=how, input=InputSpec('x', 'float32', 'NCHW', None, None, None, False))
    for height, width in SIZES:
        image = noise(height, width)
        results = {'img': image[:, :, ::-1], 'img_shape': (height, width), 'ori_shape': (height, width)}
        for step in steps:
            results = step(results)
        prepared = prepare(image, how)
        np.testing.assert_array_equal(prepared.pixels, results['img'][:, :, ::-1])

        # h,w,3 -> 3,h,w
        tensor = torch.from_numpy(np.ascontiguousarray(results['img'].transpose(2, 0, 1)))
        expected = to_input({'inputs': [tensor], 'data_samples': None})['inputs']
        batch = make_batch([prepared], input_size(prepared, metadata), metadata)
        np.testing.assert_allclose(batch, expected.numpy(), atol=1e-6)


@pytest.mark.parametrize('size', [(320, 320), (1199, 800), (77, 33)])
@pytest.mark.parametrize('shape', SIZES[:3])
def test_resizing_without_opencv_differs_by_one_level_at_most(shape, size, monkeypatch):
    pytest.importorskip('cv2')
    image = noise(*shape)
    expected = resize_image(image, size, 'cv2', 'bilinear').astype(int)
    monkeypatch.setattr(preprocess, 'cv2', None)
    assert np.abs(resize_image(image, size, 'cv2', 'bilinear') - expected).max() <= 1
    with pytest.raises(UserError, match='pip install opencv-python-headless'):
        resize_image(image, size, 'cv2', 'bicubic')


def test_fit_keeps_the_ratio_within_a_fixed_canvas():
    how = replace(STRETCH, resize='fit', scale=(64, 48), pad_size=(64, 48))
    prepared = prepare(noise(100, 50), how)
    assert prepared.size == (24, 48)
    assert input_size(prepared, detector(preprocessing=how)) == (64, 48)


def test_pixels_normalized_by_the_graph_are_padded_with_the_mean():
    how = replace(STRETCH, resize='none', scale=(0, 0), pad_divisor=32)
    for dtype, expected in (('uint8', [124, 116, 104]), ('float32', how.mean)):
        spec = InputSpec('x', dtype, 'NHWC', 2, None, None, True)
        metadata = detector(preprocessing=how, input=spec)
        prepared = prepare(noise(20, 40), how)
        batch = make_batch([prepared], input_size(prepared, metadata), metadata)
        assert batch.shape == (2, 32, 64, 3)
        np.testing.assert_array_equal(batch[0, :20, :40], prepared.pixels)
        np.testing.assert_allclose(batch[0, 20:], np.broadcast_to(expected, (12, 64, 3)), rtol=1e-6)
        np.testing.assert_allclose(batch[1], np.broadcast_to(expected, (32, 64, 3)), rtol=1e-6)


def test_a_size_that_the_graph_does_not_take_is_refused():
    how = replace(STRETCH, resize='none', scale=(0, 0))
    with pytest.raises(UserError, match='gives width 40, the graph takes 64 only'):
        input_size(prepare(noise(20, 40), how), detector(preprocessing=how))


def test_a_sliver_that_would_vanish_is_refused():
    how = replace(STRETCH, resize='keep_ratio', scale=(64, 48))
    with pytest.raises(UserError, match='1x9000 would be resized to 0x64'):
        prepare(noise(9000, 1), how)


def test_a_crop_is_taken_from_the_centre():
    how = replace(STRETCH, resize='short_edge', scale=(40, 40), crop=(32, 32))
    image = noise(40, 60)
    prepared = prepare(image, how)
    np.testing.assert_array_equal(prepared.pixels, image[4:36, 14:46])
    assert input_size(prepared, classifier(preprocessing=how, input=InputSpec('x', 'uint8', 'NHWC', 1, 32, 32, True)))
