"""What a config says about prediction is read whole, or refused by the name of what is not understood."""

from __future__ import annotations

from dataclasses import replace

import pytest

from emo_mm.compat import register_toolbox
from emo_mm.config.names import get_config, list_models
from emo_mm.errors import UserError
from emo_mm.predict.describe import classes_of, mask_spec_of, nms_of, preprocessing_of
from emo_mm.runtime.metadata import NMS, MaskSpec, Preprocessing

pytestmark = pytest.mark.toolbox

IMAGENET = {'mean': (123.675, 116.28, 103.53), 'std': (58.395, 57.12, 57.375)}
STRETCH = Preprocessing('stretch', (320, 320), 'cv2', 'bilinear', None, 1, None, 0.0, **IMAGENET)


def config(name: str):
    cfg = get_config(name)
    register_toolbox(cfg.default_scope)
    return cfg


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        ('ssdlite_emo_2m_coco', STRETCH),
        ('retinanet_emo_1m_coco', replace(STRETCH, resize='keep_ratio', scale=(1333, 800), pad_divisor=32)),
        ('pspnet_emo_1m_ade20k', replace(STRETCH, resize='keep_ratio', scale=(2048, 512))),
        (
            'emo_1m_imagenet',
            replace(
                STRETCH,
                resize='short_edge',
                scale=(256, 256),
                backend='pillow',
                interpolation='bicubic',
                crop=(224, 224),
            ),
        ),
    ],
)
def test_preprocessing_is_read_from_the_test_pipeline(name, expected):
    assert preprocessing_of(config(name)) == expected


def test_of_two_stages_the_last_selects_what_is_found():
    expected = NMS(0.05, 0.5, nms_pre=None, max_per_image=100, class_agnostic=False, min_size=-1)
    assert nms_of(config('mask-rcnn_emov2_1m_coco')) == expected


def test_soft_masks_are_refused():
    cfg = config('rtmdet-ins_emo_1m_coco')
    assert mask_spec_of(cfg, 8) == MaskSpec(0.5, 8)
    cfg.model.test_cfg.mask_thr_binary = -1
    with pytest.raises(UserError, match=r'masks.threshold is -1.0; it must be between 0 and 1'):
        mask_spec_of(cfg, 8)


@pytest.mark.parametrize('name', list_models())
def test_every_config_can_be_described(name):
    cfg = config(name)
    assert preprocessing_of(cfg).mean == IMAGENET['mean']
    assert (nms_of(cfg) is not None) == (cfg.default_scope == 'mmdet')
    classes, palette = classes_of(cfg)
    assert len(palette) in (0, len(classes))


def test_selection_of_boxes_is_read_from_the_test_settings():
    expected = NMS(0.02, 0.45, nms_pre=1000, max_per_image=200, class_agnostic=False, min_size=0)
    assert nms_of(config('ssdlite_emo_2m_coco')) == expected


@pytest.mark.parametrize(
    ('step', 'said'),
    [
        (dict(type='RandomFlip', prob=0.5), r'RandomFlip\(prob=0.5\)'),
        (dict(type='Pad', size_divisor=32), 'Pad'),
        (dict(type='Resize', scale=(320, 320), keep_ratio=False), 'Resize where it cannot be followed'),
        (dict(type='CenterCrop', crop_size=224, auto_pad=True), 'auto_pad of CenterCrop'),
        (dict(type='LoadImageFromFile', to_float32=True), 'to_float32 of LoadImageFromFile'),
    ],
)
def test_an_unknown_step_of_the_pipeline_is_refused_by_name(step, said):
    cfg = config('ssdlite_emo_2m_coco')
    cfg.test_dataloader.dataset.pipeline.insert(2, step)
    with pytest.raises(UserError, match=said):
        preprocessing_of(cfg)


def test_other_selections_of_boxes_are_refused():
    cfg = config('ssdlite_emo_2m_coco')
    cfg.model.test_cfg.nms = dict(type='soft_nms', iou_threshold=0.5)
    with pytest.raises(UserError, match='soft_nms'):
        nms_of(cfg)


def test_networks_that_take_blue_first_are_refused():
    cfg = config('ssdlite_emo_2m_coco')
    cfg.model.data_preprocessor.bgr_to_rgb = False
    with pytest.raises(UserError, match='blue, green, red'):
        preprocessing_of(cfg)


def test_the_checkpoint_knows_its_classes_better_than_the_config():
    cfg = config('ssdlite_emo_1m_demo')
    meta = {'dataset_meta': {'CLASSES': ('a', 'b', 'c', 'd'), 'palette': [(1, 2, 3)] * 4}}
    assert classes_of(cfg, meta) == (('a', 'b', 'c', 'd'), ((1, 2, 3),) * 4)
    with pytest.raises(UserError, match='the model has 4 classes and the data set names 2'):
        classes_of(cfg, {'dataset_meta': {'classes': ('a', 'b')}})
