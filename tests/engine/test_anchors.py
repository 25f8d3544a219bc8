"""Anchors: which boxes they find, and those that are chosen by the boxes of the data."""

import json

import numpy as np
import pytest
import torch
from data_trees import SHARED, boxes_of_size, write_coco, write_folders
from mmengine.registry import TASK_UTILS
from planning import planned, said

from emo_mm.config.names import get_config
from emo_mm.config.pipeline import Resizing
from emo_mm.config.view import read_view
from emo_mm.data.layouts.base import Boxes
from emo_mm.data.splits import DataRequest
from emo_mm.data.training_boxes import training_boxes
from emo_mm.engine.options import TrainOptions
from emo_mm.engine.steps.anchors import best_ious, generator_part, k_means
from emo_mm.engine.train import train
from emo_mm.errors import UserError

pytestmark = pytest.mark.toolbox
SIDE = 256  # pixels of the images and of the input


def generator_of(cfg):
    part = generator_part(read_view(cfg, 'train'))
    with TASK_UTILS.switch_scope_and_registry('mmdet') as registry:
        return part.node, registry.build(dict(part.node))


@pytest.fixture(scope='module')
def small(tmp_path_factory):
    root = tmp_path_factory.mktemp('small')
    write_coco(root, boxes_of_size(20), boxes_of_size(20, 2))
    return root


@pytest.mark.parametrize('config', ['ssdlite_emo_1m_demo', 'retinanet_emo_1m_coco'])
def test_the_best_iou_is_that_with_all_anchors_on_all_maps(config):
    from mmdet.structures.bbox import bbox_overlaps

    view = read_view(get_config(config), 'train')
    node, generator = generator_of(view.cfg)
    sizes = np.exp(np.random.default_rng(1).uniform(2, 5.4, (50, 2)))
    places = np.concatenate([np.random.default_rng(2).uniform(0, 1, (50, 2)) * (SIDE - sizes), sizes], axis=1)
    boxes = Boxes(places, np.full((50, 2), float(SIDE)), np.full(50, 'x'))
    maps = [SIDE // stride[0] for stride in generator.strides]
    priors = torch.cat(generator.grid_priors([(side, side) for side in maps], device='cpu'))
    corners = torch.tensor(np.concatenate([places[:, :2], places[:, :2] + sizes], axis=1)).float()
    expected = bbox_overlaps(corners, priors).amax(1)
    found = best_ious(view, node, boxes, Resizing((SIDE, SIDE), False))
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


@pytest.mark.parametrize('config', ['ssdlite_emo_1m_demo', 'retinanet_emo_1m_coco'])
def test_chosen_anchors_find_more_boxes_and_are_as_many_per_cell(small, config):
    before, after = planned(small, config), planned(small, config, anchors='auto')
    _, old = generator_of(before.cfg)
    node, new = generator_of(after.cfg)
    assert new.num_base_priors == old.num_base_priors
    view = read_view(after.cfg, 'train')
    resizing = Resizing((SIDE, SIDE), False) if 'ssd' in config else Resizing((1333, 800), True)
    shares = [
        (best_ious(view, one, training_boxes(view), resizing) >= 0.5).mean()
        for one in (generator_part(read_view(before.cfg, 'train')).node, node)
    ]
    assert shares[1] >= shares[0]
    assert f'{shares[1]:.0%}' in said(after, 'anchors chosen by your boxes')
    assert any('anchor_generator' in line for line in after.edits)


def test_anchors_that_miss_small_boxes_are_told_with_the_flag_that_helps(small):
    plan = planned(small, 'ssdlite_emo_1m_demo')
    assert '--anchors auto' in said(plan, 'have an anchor')


def test_a_rare_class_counts_like_the_others(tmp_path):
    content, few = boxes_of_size(110, 60), boxes_of_size(20, 12, seed=1)
    for one, rare in zip(content['annotations'], few['annotations'], strict=False):
        one.update(bbox=rare['bbox'], area=rare['area'], category_id=10)
    for one in content['annotations'][12:]:
        one['category_id'] = 11
    write_coco(tmp_path, content, few)
    assert '0% of cat' in said(planned(tmp_path, 'ssdlite_emo_1m_demo'), 'have an anchor')
    plan = planned(tmp_path, 'ssdlite_emo_1m_demo', anchors='auto')
    assert plan.cfg.model.bbox_head.anchor_generator.min_sizes[0] < 30


def test_a_recipe_is_not_changed_unless_asked(small):
    plan = planned(small, 'ssdlite_emo_1m_coco')
    own = get_config('ssdlite_emo_1m_coco')
    assert plan.cfg.model.bbox_head.anchor_generator == own.model.bbox_head.anchor_generator
    assert not [line for line in plan.edits if 'pipeline' in line or 'anchor' in line]


@pytest.mark.parametrize('words', ['anchors', 'balance', 'freeze', 'input', 'patience', 'class_weights', 'device'])
def test_nothing_is_fitted_by_itself(words):
    assert not getattr(TrainOptions('x'), words)


def test_anchors_of_a_model_without_are_refused(tmp_path):
    write_folders(tmp_path)
    with pytest.raises(UserError, match='--anchors auto: no part of the model has an anchor_generator'):
        planned(tmp_path, 'emo_1m_demo', anchors='auto')


def test_k_means_finds_clusters():
    values = np.repeat([1.0, 5.0, 9.0], [5, 50, 2])
    np.testing.assert_allclose(k_means(values, 3), [1, 5, 9])


def test_the_published_boxes_of_bccd_get_anchors_for_platelets():
    if not (SHARED / 'bccd').is_dir():
        pytest.skip('../shared/data/bccd is not there')
    line = said(planned(SHARED / 'bccd', 'ssdlite_emo_1m_demo'), 'have an anchor')
    assert 'of Platelets' in line
    assert '--anchors auto' in line


def test_a_training_with_chosen_anchors_stops_when_it_no_longer_improves(tmp_path):
    content = boxes_of_size(20, 2, image=32)
    for one in content['annotations']:
        one.update(bbox=[4, 4, 14, 12], area=168)
    for picture in content['images']:
        picture.update(width=32, height=24)
    write_coco(tmp_path / 'data', content, content)
    options = TrainOptions(
        'ssdlite_emo_1m_demo',
        data=DataRequest(data_root=str(tmp_path / 'data')),
        work_dir=str(tmp_path / 'work'),
        # no box is large, so that this metric is -1 whatever the network finds
        cfg_options={'train_cfg.val_interval': 1, 'default_hooks.checkpoint.save_best': 'coco/bbox_mAP_l'},
        epochs=6,
        lr=1e-9,
        workers=0,
        batch_size=2,
        anchors='auto',
        patience=1,
        device='cpu' if not torch.cuda.is_available() else 'cuda',
    )
    report = train(options)
    steps = report['history']['coco/bbox_mAP']['step']
    assert len(steps) == 2  # the first, and one that is not better
    written = next((tmp_path / 'work').glob('*.py')).read_text()
    sizes = planned(tmp_path / 'data', 'ssdlite_emo_1m_demo', anchors='auto').cfg.model.bbox_head.anchor_generator
    assert json.dumps(sizes.min_sizes[0]) in written


def test_published_data_get_no_advice_to_leave_their_recipe():
    if not (SHARED / 'coco_tiny').is_dir():
        pytest.skip('../shared/data/coco_tiny is not there')
    plan = planned(SHARED / 'coco_tiny', 'ssdlite_emo_2m_coco')
    assert 'have an anchor' in said(plan, 'anchors:')
    assert not [line for line in plan.lines if '--anchors' in line or '--input' in line]
    assert not [line for line in plan.edits if 'pipeline' in line or 'anchor' in line]


def test_anchors_that_are_chosen_by_distance_are_not_judged_by_their_sizes(tmp_path):
    content = boxes_of_size(4, 2)
    write_coco(tmp_path, content, content)
    plan = planned(tmp_path, 'gfl_emo_1m_demo')
    assert not [line for line in plan.lines if line.startswith('anchors')]
    with pytest.raises(UserError, match='--anchors auto: ATSSAssigner gives boxes to the nearest anchors'):
        planned(tmp_path, 'gfl_emo_1m_demo', anchors='auto')
    with pytest.raises(UserError, match='--anchors auto: MlvlPointGenerator has no sizes to choose'):
        planned(tmp_path, 'rtmdet_emo_1m_demo', anchors='auto')
