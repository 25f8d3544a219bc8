"""What fits a training to few or small things: input, rare classes, frozen stages, early stop, device."""

import os

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from data_trees import boxes_of_size, write_coco, write_folders, write_masks
from planning import planned, said

from emo_mm.config.names import get_config
from emo_mm.config.pipeline import Resizing, resized_pipelines
from emo_mm.config.view import read_view
from emo_mm.engine.device import choose_device
from emo_mm.engine.options import TrainOptions
from emo_mm.engine.plan import take
from emo_mm.engine.steps import devices, hooks, input_size, start
from emo_mm.engine.steps.balance import balanced_weights
from emo_mm.errors import UserError
from emo_mm.registry import MODELS

pytestmark = pytest.mark.toolbox
DEMOS = {'det': 'ssdlite_emo_1m_demo', 'seg': 'deeplabv3_emo_1m_demo', 'cls': 'emo_1m_demo'}


@pytest.fixture(scope='module')
def roots(tmp_path_factory):
    root = tmp_path_factory.mktemp('sets')
    write_coco(root / 'det', boxes_of_size(7, 20), boxes_of_size(7, 2))
    write_masks(root / 'seg')
    write_folders(root / 'cls')
    return root


def taken(config, step, **options):
    cfg = get_config(config)
    lines, edits = take(cfg, [step], TrainOptions(config, **options), 'train')
    return cfg, lines, edits


def test_boxes_below_a_cell_are_told_with_an_input_that_sees_them(roots):
    line = said(planned(roots / 'det', DEMOS['det']), 'smaller than a cell')
    assert line.startswith('100% of the boxes are smaller than a cell of the first map (16 pixels) at 256x256')
    assert '--input 768 would leave 0%' in line


def test_boxes_that_are_seen_are_not_told(tmp_path):
    write_coco(tmp_path, boxes_of_size(60, 10), boxes_of_size(60, 2))
    assert not [line for line in planned(tmp_path, DEMOS['det']).lines if 'smaller' in line]


def test_another_input_reaches_pipelines_and_anchors_of_all_splits(roots):
    plan = planned(roots / 'det', DEMOS['det'], input=512)
    loaders = [plan.cfg[f'{split}_dataloader'].dataset.pipeline for split in ('train', 'val', 'test')]
    scales = [step.scale for pipeline in loaders for step in pipeline if step.type == 'Resize']
    assert scales == [(512, 512)] * 3
    anchors = plan.cfg.model.bbox_head.anchor_generator
    assert anchors.min_sizes == [80, 180, 260, 340, 420, 480]
    assert anchors.strides == [16, 32, 64, 128, 256, 512]
    assert 'input: 256 -> 512 pixels' in said(plan, 'input:')


def test_strides_of_another_input_are_those_of_the_maps():
    cfg, *_ = taken('ssdlite_emo_1m_coco', input_size.input_size, input=640)
    assert cfg.model.bbox_head.anchor_generator.strides == [16, 32, 64, 128, 213, 320]
    cfg, _, edits = taken('ssdlite_emo_1m_coco', input_size.input_size, input=320)
    assert edits == []


def test_another_input_of_segmentation_is_that_of_crops_and_padding(roots):
    cfg = planned(roots / 'seg', DEMOS['seg'], input=256).cfg
    train = {step.type: step for step in cfg.train_dataloader.dataset.pipeline}
    assert train['RandomResize'].scale == (1024, 256)
    assert train['RandomCrop'].crop_size == (256, 256)
    assert cfg.model.data_preprocessor.size == (256, 256)
    assert cfg.test_dataloader.dataset.pipeline[1].scale == (1024, 256)


def test_another_input_of_classification_is_that_of_crops_also_inside_choices():
    cfg, *_ = taken('emo_1m_imagenet', input_size.input_size, input=448)
    assert cfg.train_dataloader.dataset.pipeline[1].transforms[1][0].scale == 448
    assert [cfg.val_dataloader.dataset.pipeline[index] for index in (1, 2)] == [
        dict(type='ResizeEdge', scale=512, edge='short', backend='pillow', interpolation='bicubic'),
        dict(type='CenterCrop', crop_size=448),
    ]


def test_the_short_side_is_the_input_where_the_ratio_is_kept():
    cfg, *_ = taken('retinanet_emo_1m_coco', input_size.input_size, input=400)
    assert cfg.val_dataloader.dataset.pipeline[1].scale == (666, 400)
    factors = Resizing((666, 400), True).factors(np.array([[1000.0, 400.0], [200.0, 100.0]]))
    np.testing.assert_allclose(factors[:, 0], [0.666, 3.33])


def test_a_step_whose_size_cannot_be_changed_is_named():
    cfg = get_config(DEMOS['det'])
    cfg.train_dataloader.dataset.pipeline.insert(2, dict(type='MyMosaic', img_scale=(256, 256)))
    with pytest.raises(UserError, match=r'the step MyMosaic \(train_dataloader.dataset.pipeline.2\) has img_scale'):
        resized_pipelines(read_view(cfg, 'train'), 2)
    cfg = get_config(DEMOS['det'])
    cfg.train_dataloader.dataset.pipeline[3] = dict(type='Resize', scale_factor=2.0)
    with pytest.raises(UserError, match='no step of the train pipeline'):
        take(cfg, [input_size.input_size], TrainOptions('x', input=64), 'train')


@pytest.mark.parametrize(('name', 'value'), [('input', 8), ('patience', 0)])
def test_numbers_out_of_range_are_refused(roots, name, value):
    with pytest.raises(UserError, match=f'--{name} is {value}; it must be'):
        planned(roots / 'cls', DEMOS['cls'], **{name: value})


def test_rare_classes_weigh_more_and_the_loss_keeps_its_size():
    weights = balanced_weights(np.array([900, 90, 10, 0]))
    assert weights == sorted(weights)
    assert np.dot(weights, [0.9, 0.09, 0.01, 0]) == pytest.approx(1, abs=1e-3)


def test_class_weights_of_masks_reach_both_heads(roots):
    plan = planned(roots / 'seg', DEMOS['seg'], class_weights='auto')
    weights = plan.cfg.model.decode_head.loss_decode.class_weight
    assert weights == plan.cfg.model.auxiliary_head.loss_decode.class_weight
    assert len(weights) == 3
    assert 'sky' in said(plan, 'class weights')
    assert plan.cfg.model.decode_head.loss_decode.type == 'emo_mm.WeightedCrossEntropyLoss'


@pytest.mark.parametrize('avg_non_ignore', [False, True])
@pytest.mark.parametrize('ignored', [0, 7, 16])
def test_the_weighted_loss_is_that_of_torch_whatever_is_ignored(avg_non_ignore, ignored):
    weights = [0.5, 2.0, 3.0]
    loss = MODELS.get('emo_mm.WeightedCrossEntropyLoss')(class_weight=weights, avg_non_ignore=avg_non_ignore)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 3, 4, 4, generator=generator, requires_grad=True)
    labels = torch.randint(3, (1, 4, 4), generator=generator)
    labels.view(-1)[:ignored] = 255
    found = loss(logits, labels, ignore_index=255)
    if ignored < 16:
        expected = F.cross_entropy(logits, labels, torch.tensor(weights), ignore_index=255)
        assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    else:
        assert found.item() == 0
    found.backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_class_weights_of_folders_reach_the_loss_of_the_head(roots):
    plan = planned(roots / 'cls', DEMOS['cls'], class_weights='auto')
    first, second = plan.cfg.model.head.loss.class_weight
    assert first > second  # glass has one image, paper two


def test_class_weights_are_refused_for_boxes(roots):
    with pytest.raises(UserError, match='--class-weights: not for detection; --balance'):
        planned(roots / 'det', DEMOS['det'], class_weights='auto')


@pytest.mark.parametrize('numbers', [(1, 9), (5, 6)])
def test_images_of_rare_classes_are_repeated(tmp_path, numbers):
    for split in ('train', 'val'):
        for name, number in zip(('few', 'many'), numbers, strict=True):
            for index in range(number):
                path = tmp_path / split / name / f'{index}.png'
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b'')
    plan = planned(tmp_path, DEMOS['cls'], balance=True)
    dataset = plan.cfg.train_dataloader.dataset
    if numbers == (5, 6):
        assert dataset.type == 'CustomDataset'
        assert 'no image is repeated' in said(plan, 'balance')
        return
    assert dataset.type == 'ClassBalancedDataset'
    said_total = int(said(plan, 'balance').split(' as ')[1].split(',')[0])
    from mmengine.registry import DATASETS

    with DATASETS.switch_scope_and_registry('mmpretrain') as registry:
        assert len(registry.build({**dataset, 'dataset': {**dataset.dataset, 'pipeline': []}})) == said_total == 12


def test_frozen_stages_say_that_their_statistics_stay():
    cfg, lines, _ = taken('ssdlite_emo_1m_coco', start.freeze, freeze=2)
    assert cfg.model.backbone.frozen_stages == 2
    assert 'stages 1 to 2' in lines[0]
    assert 'statistics of their BatchNorms' in lines[0]


@pytest.mark.parametrize(
    ('config', 'stage', 'message'),
    [
        ('ssdlite_emo_1m_coco', 5, '--freeze is 5; it must be'),
        ('ssdlite_emo_1m_demo', 1, 'starts from random weights'),
    ],
)
def test_stages_that_cannot_be_frozen_are_refused(config, stage, message):
    with pytest.raises(UserError, match=message):
        taken(config, start.freeze, freeze=stage)


def test_patience_needs_validations_and_a_metric():
    cfg = get_config(DEMOS['det'])
    cfg.default_hooks.checkpoint.save_best = None
    with pytest.raises(UserError, match=r'--patience needs a metric: .*save_best=coco/bbox_mAP'):
        take(cfg, [hooks.patience], TrainOptions('x', patience=2), 'train')
    cfg.val_dataloader = None
    with pytest.raises(UserError, match='--patience counts validations'):
        take(cfg, [hooks.patience], TrainOptions('x', patience=2), 'train')


@pytest.mark.parametrize(
    ('device', 'before', 'after'),
    [('cpu', '1,2', ''), ('cuda:1', '4,7', '7'), ('cuda:3', None, '3'), ('cuda', '2', '2')],
)
def test_a_device_hides_the_others(monkeypatch, device, before, after):
    if before is None:
        monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')  # so that it is put back
        monkeypatch.delenv('CUDA_VISIBLE_DEVICES')
    else:
        monkeypatch.setenv('CUDA_VISIBLE_DEVICES', before)
    choose_device(device)
    assert os.environ['CUDA_VISIBLE_DEVICES'] == after


@pytest.mark.parametrize(
    ('device', 'launcher', 'message'),
    [
        ('gpu', 'none', 'must be cpu, cuda or cuda:N'),
        ('cuda:1', 'pytorch', 'gives each process a GPU'),
        ('cuda:2', 'none', 'shows 2 GPUs'),
    ],
)
def test_impossible_devices_are_one_line(monkeypatch, device, launcher, message):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '0,1')
    with pytest.raises(UserError, match=message):
        choose_device(device, launcher)


@pytest.mark.parametrize(('device', 'seen'), [('cuda', False), ('cuda:1', False), ('cpu', True)])
def test_a_device_that_is_not_there_is_refused(monkeypatch, device, seen):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: seen)
    with pytest.raises(UserError, match=f'--device {device}: PyTorch'):
        taken(DEMOS['det'], devices.device, device=device)
