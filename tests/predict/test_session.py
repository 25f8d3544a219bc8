"""Prediction in PyTorch equals the toolboxes' own inference on the same checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from emo_mm.config.build import build_from_config, build_model
from emo_mm.config.carried import config_in, differing_parts
from emo_mm.config.names import get_config
from emo_mm.errors import UserError
from emo_mm.predict.loading import load_for_prediction
from emo_mm.predict.session import torch_predictor

pytestmark = pytest.mark.toolbox


@pytest.fixture(scope='module')
def photos(tmp_path_factory) -> list[str]:
    """Three smooth pictures of two sizes."""
    folder = tmp_path_factory.mktemp('photos')
    rng = np.random.default_rng(0)
    paths = []
    for index, size in enumerate([(130, 100), (100, 130), (130, 100)]):
        coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
        paths.append(str(folder / f'{index}.png'))
        coarse.resize(size, Image.Resampling.BICUBIC).save(paths[-1])
    return paths


def save_checkpoint(path: Path, name: str, state_dict: dict | None = None, **meta: object) -> str:
    torch.manual_seed(0)
    cfg = get_config(name)
    state_dict = state_dict or build_from_config(cfg).state_dict()
    meta = {'cfg': cfg.pretty_text, 'experiment_name': f'{name}_20260101_000000'} | meta
    torch.save({'state_dict': state_dict, 'meta': meta}, path)
    return str(path)


def model_of(name: str, checkpoint: str):
    """The model with what the toolboxes' functions want of it."""
    model = build_model(name, checkpoint)
    model.cfg = get_config(name)
    return model


def test_boxes_equal_those_of_mmdet(photos, tmp_path):
    from detectors import matched_share, random_detector
    from mmdet.apis import inference_detector
    from mmengine.registry import DefaultScope

    from emo_mm.runtime import Detections

    name = 'ssdlite_emo_1m_demo'
    checkpoint = save_checkpoint(tmp_path / 'det.pth', name, random_detector(get_config(name), photos))
    model = model_of(name, checkpoint)
    with DefaultScope.overwrite_default_scope('mmdet'):
        instances = [inference_detector(model, path).pred_instances.numpy() for path in photos]
    expected = [Detections(found.bboxes, found.scores, found.labels) for found in instances]
    assert sum(len(found.labels) for found in expected) > 100
    assert len({label for found in expected for label in found.labels}) > 1
    for batch in (1, 2):
        found = torch_predictor(name, checkpoint, batch)(photos)
        assert [len(x.labels) for x in found] == [len(x.labels) for x in expected]
        # Fused weights round differently, which may swap near ties at the limit of boxes.
        assert matched_share(found, expected) > 0.99


def test_label_maps_equal_those_of_mmseg(photos, tmp_path):
    from mmengine.registry import DefaultScope
    from mmseg.apis import inference_model

    name = 'deeplabv3_emo_1m_demo'
    checkpoint = save_checkpoint(tmp_path / 'seg.pth', name)
    model = model_of(name, checkpoint)
    found = torch_predictor(name, checkpoint, batch_size=3)(photos)
    for path, result in zip(photos, found, strict=True):
        with DefaultScope.overwrite_default_scope('mmseg'):
            expected = inference_model(model, path).pred_sem_seg.data[0].numpy()
        assert len(np.unique(expected)) > 1
        assert np.mean(result.labels == expected) > 0.999


def test_probabilities_equal_those_of_mmpretrain(photos, tmp_path):
    from mmpretrain.apis import ImageClassificationInferencer

    name = 'emo_1m_demo'
    checkpoint = save_checkpoint(tmp_path / 'cls.pth', name, dataset_meta={'classes': ('a', 'b', 'c', 'd')})
    config = tmp_path / 'config.py'
    get_config(name).dump(str(config))
    inferencer = ImageClassificationInferencer(str(config), pretrained=checkpoint, device='cpu')
    expected = [answer['pred_scores'] for answer in inferencer(photos)]
    found = torch_predictor(checkpoint, batch_size=2)
    assert found.metadata.classes == ('a', 'b', 'c', 'd')
    np.testing.assert_allclose([x.probabilities for x in found(photos)], expected, atol=1e-5)


def test_a_checkpoint_of_ours_needs_no_config(tmp_path):
    name = 'ssdlite_emo_1m_demo'
    cfg = get_config(name)
    found = config_in({'cfg': cfg.pretty_text}, 'x.pth')
    assert found.model == cfg.model
    assert found.test_dataloader == cfg.test_dataloader
    loaded = load_for_prediction(save_checkpoint(tmp_path / 'det.pth', name))
    assert loaded.name == name
    with pytest.raises(UserError, match='is a checkpoint already'):
        load_for_prediction(tmp_path / 'det.pth', 'other.pth')


def test_a_checkpoint_of_other_classes_than_the_config_names_both_and_the_way_out(tmp_path):
    path = save_checkpoint(tmp_path / 'det.pth', 'ssdlite_emo_1m_demo')
    checkpoint = torch.load(path, weights_only=False)
    checkpoint['meta'].update(
        cfg=get_config('ssdlite_emo_1m_demo').pretty_text, dataset_meta=dict(classes=('cat', 'dog'))
    )
    torch.save(checkpoint, path)
    with pytest.raises(
        UserError, match=rf'on 2 classes \(cat, dog\), and the config has 80; --model {path} alone takes'
    ):
        load_for_prediction('ssdlite_emo_1m_coco', path)


def test_a_detector_without_weights_is_refused():
    with pytest.raises(UserError, match='has no published weights'):
        load_for_prediction('ssdlite_emo_1m_coco')


def test_a_checkpoint_of_other_anchors_is_noticed():
    cfg = get_config('ssdlite_emo_1m_demo')
    meta = {'cfg': cfg.pretty_text}
    cfg.model.backbone.init_cfg = None  # of no consequence here
    assert differing_parts(cfg, meta) == []
    cfg.model.bbox_head.anchor_generator.min_sizes = [1, 2, 3, 4, 5, 6]
    assert differing_parts(cfg, meta) == ['bbox_head']
    assert differing_parts(cfg, {}) == []


PLAIN = (
    "default_scope = 'mmdet'\ntest_dataloader = dict(a=[1, (2, -3.5)])\nmodel = dict(type='RetinaNet', b={'c': None})\n"
)


def test_the_config_of_a_checkpoint_is_parsed_and_not_run(tmp_path):
    cfg = config_in({'cfg': PLAIN + 'work_dir = print(1)\n'}, 'x.pth')
    assert cfg.model.b.c is None
    assert cfg.test_dataloader.a == [1, (2, -3.5)]
    assert 'work_dir' not in cfg


@pytest.mark.parametrize(
    'text',
    [
        None,
        'x = 1',
        'def',
        PLAIN.replace("'RetinaNet'", "__import__('os').getcwd()"),
        PLAIN.replace("'RetinaNet'", "'os.system'"),
        PLAIN.replace("'RetinaNet'", "'mmdet.utils.os.system'"),
        PLAIN.replace("'RetinaNet'", "'mmengine.load'"),
        PLAIN.replace("'RetinaNet'", "'emo_mm.DeployedModel'"),
        PLAIN.replace("type='RetinaNet'", '**{}'),
        PLAIN.replace("'RetinaNet'", '[' * 5000 + ']' * 5000),
    ],
)
def test_a_config_that_is_more_than_values_is_refused(text):
    with pytest.raises(UserError, match=r'a config in its place, and --weights x\.pth'):
        config_in({'cfg': text}, 'x.pth')


def test_a_detector_that_was_trained_with_this_very_config_raises_no_doubt(tmp_path, caplog):
    from emo_mm.config.build import build_from_config
    from emo_mm.config.carried import differing_parts

    cfg = get_config('ssdlite_emo_1m_demo')
    meta = {'cfg': cfg.pretty_text}
    build_from_config(cfg)  # which mmdet changes parts for
    assert differing_parts(cfg, meta) == []
