"""The segmentation configs follow their recipe, train, and take the user's own data."""

import json

import numpy as np
import pytest
import recipes
import torch
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from PIL import Image
from planning import load_run_config

from emo_mm.config.build import build_model
from emo_mm.config.names import get_config, list_models
from emo_mm.data.shapes.generate import PALETTE, generate
from emo_mm.data.shapes.painter import CLASSES
from emo_mm.data.splits import DataRequest
from emo_mm.engine.options import TrainOptions
from emo_mm.models.emov2 import ARCHS as EMOV2_ARCHS

pytestmark = pytest.mark.toolbox

PUBLISHED = [f'{head}_emo_{size}_ade20k' for head in ('deeplabv3', 'pspnet') for size in ('1m', '2m', '5m')]
# Parameters by the published tables, auxiliary head included, to be met but for the rounding.
PARAMS = dict(zip(PUBLISHED, (5.6, 6.9, 10.3, 4.3, 5.5, 8.5), strict=True))


EMOV2 = [f'{head}_emov2_{size}_ade20k' for head in ('deeplabv3', 'pspnet', 'fpn', 'segformer') for size in EMOV2_ARCHS]


def test_every_published_segmenter_has_a_config():
    assert set(list_models('seg')) == {*PUBLISHED, *EMOV2, 'deeplabv3_emo_1m_demo', 'deeplabv3_emov2_1m_demo'}


@pytest.mark.parametrize('name', PUBLISHED)
def test_the_model_is_that_of_the_recipe(name):
    cfg = get_config(name)
    size = name.split('_')[2]
    model = cfg.model
    assert (model.backbone.arch, model.backbone.init_cfg.checkpoint) == (size, f'emo_{size}')
    assert model.backbone.window_size == (16 if size == '5m' else 7)
    assert model.backbone.get('frozen_stages', -1) == -1
    assert not model.backbone.get('norm_eval', False)
    assert model.decode_head.channels == model.auxiliary_head.channels == 256
    if name.startswith('deeplabv3'):
        assert (model.decode_head.type, tuple(model.decode_head.dilations)) == ('ASPPHead', (1, 12, 24, 36))
    else:
        assert (model.decode_head.type, tuple(model.decode_head.pool_scales)) == ('PSPHead', (1, 2, 3, 6))
    assert model.decode_head.dropout_ratio == 0.1
    assert (model.auxiliary_head.num_convs, model.auxiliary_head.loss_decode.loss_weight) == (1, 0.4)
    assert model.test_cfg.mode == 'whole'
    assert cfg.sync_bn == 'torch'
    params = sum(parameter.numel() for parameter in build_model(name).parameters()) / 1e6
    assert PARAMS[name] <= params < PARAMS[name] + 0.1


@pytest.mark.parametrize('name', PUBLISHED)
def test_the_heads_work_at_strides_32_and_16(name):
    model = build_model(name)
    with torch.no_grad():
        maps = model.extract_feat(torch.zeros(1, 3, 64, 96))
        assert model.decode_head(maps).shape == (1, 150, 2, 3)
        assert model.auxiliary_head(maps).shape == (1, 150, 4, 6)


@pytest.mark.parametrize('name', PUBLISHED)
def test_training_is_that_of_the_recipe(name):
    cfg = get_config(name)
    assert (cfg.train_cfg.type, cfg.train_cfg.max_iters) == ('IterBasedTrainLoop', 80_000)
    assert cfg.train_dataloader.batch_size * 8 == cfg.auto_scale_lr.base_batch_size == 32
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', 1.2e-4, 0.01)
    assert cfg.optim_wrapper.get('clip_grad') is None
    for parameter, decay in recipes.weight_decays(cfg, build_model(name)).items():
        assert decay == (0 if 'norm' in parameter else 0.01), parameter


@pytest.mark.parametrize('name', EMOV2)
def test_emov2_is_trained_by_its_own_recipe(name):
    head, _, size, _ = name.split('_')
    cfg = get_config(name)
    backbone = cfg.model.backbone
    assert (backbone.type, backbone.arch, backbone.window_size) == ('emo_mm.EMOv2', size, 10)
    assert backbone.init_cfg.checkpoint == f'emov2_{size}'
    assert cfg.train_dataloader.batch_size * 4 == cfg.auto_scale_lr.base_batch_size == 32
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.weight_decay) == (1.2e-4, 0.05)
    warm_up, cosine = cfg.param_scheduler
    if head in ('deeplabv3', 'pspnet'):
        assert cfg.optim_wrapper.clip_grad.max_norm == 0.1
        assert (warm_up.start_factor, warm_up.end, cosine.begin, cosine.end) == (1e-5, 500, 40_000, 80_000)
    else:
        assert cfg.optim_wrapper.get('clip_grad') is None
        assert cfg.optim_wrapper.paramwise_cfg.custom_keys.head.lr_mult == 10
        assert (warm_up.start_factor, warm_up.end, cosine.begin, cosine.end) == (1e-6, 1500, 80_000, 160_000)
    assert cfg.train_cfg.max_iters == cosine.end


def test_the_learning_rate_falls_by_the_power_0_9_from_the_first_step_to_zero():
    cfg = get_config(PUBLISHED[0])
    (scheduler,) = cfg.param_scheduler
    assert (scheduler.begin, scheduler.end) == (0, 80_000)
    scheduler.end = 100  # the same curve, sooner
    rates = recipes.learning_rates(cfg, 100)
    # MMEngine reaches zero at the last step, not after it.
    np.testing.assert_allclose(rates[:100], [1.2e-4 * (1 - step / 99) ** 0.9 for step in range(100)], atol=1e-12)


@pytest.mark.parametrize(('side', 'top'), [(90, 260), (1200, 800)])
def test_training_crops_are_512_wide_whatever_the_image(side, top, tmp_path):
    Image.fromarray(np.zeros((side, top, 3), np.uint8)).save(tmp_path / 'image.jpg')
    labels = np.tile(np.arange(top, dtype=np.uint8) % 151, (side, 1))
    Image.fromarray(labels).save(tmp_path / 'mask.png')
    cfg = get_config(PUBLISHED[0])
    build_model(PUBLISHED[0])  # registers the transforms
    sample = dict(
        img_path=str(tmp_path / 'image.jpg'),
        seg_map_path=str(tmp_path / 'mask.png'),
        seg_fields=[],
        label_map=None,
        reduce_zero_label=True,
    )
    with DefaultScope.overwrite_default_scope('mmseg'):
        packed = Compose(cfg.train_pipeline)(dict(sample, seg_fields=[]))
        tested = Compose(cfg.test_pipeline)(dict(sample, seg_fields=[]))
    model = build_model(PUBLISHED[0])
    batch = model.data_preprocessor({'inputs': [packed['inputs']], 'data_samples': [packed['data_samples']]}, True)
    assert batch['inputs'].shape == (1, 3, 512, 512)
    assert batch['data_samples'][0].gt_sem_seg.data.shape == (1, 512, 512)
    assert min(tested['inputs'].shape[1:]) <= 512 < 2048
    truth = tested['data_samples'].gt_sem_seg.data[0]
    assert truth.shape == (side, top)  # scored at the size of the image
    assert truth[0, :3].tolist() == [255, 0, 1]  # 0 is no class of ADE20K


def test_a_segmenter_learns_from_a_batch():
    from mmseg.structures import SegDataSample

    model = build_model('pspnet_emo_1m_ade20k').train()
    samples = [SegDataSample(metainfo=dict(img_shape=(64, 64))) for _ in range(2)]
    for sample in samples:
        sample.gt_sem_seg = PixelData(data=torch.randint(0, 150, (1, 64, 64)))
    losses = model(torch.randn(2, 3, 64, 64), samples, mode='loss')
    total = losses['decode.loss_ce'] + losses['aux.loss_ce']
    total.backward()
    assert torch.isfinite(total)
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_the_demonstration_has_the_classes_of_its_data():
    cfg = get_config('deeplabv3_emo_1m_demo')
    assert tuple(cfg.metainfo.classes) == ('background', *CLASSES)
    assert [tuple(colour) for colour in cfg.metainfo.palette] == list(PALETTE[: len(CLASSES) + 1])
    assert cfg.model.decode_head.num_classes == cfg.model.auxiliary_head.num_classes == len(CLASSES) + 1


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """The work directory of a demonstration of two steps, and its data set."""
    from emo_mm.cli import main

    folder = tmp_path_factory.mktemp('demo')
    generate(folder / 'shapes', num_train=4, num_val=2, size=64)
    places = ['--data-root', str(folder / 'shapes'), '--work-dir', str(folder / 'run')]
    size = ['--iters', '2', '--batch-size', '2', '--workers', '0', '--seed', '1']
    assert main(['train', 'deeplabv3_emo_1m_demo', *places, *size]) == 0
    return folder / 'run', folder / 'shapes'


def test_the_demonstration_leaves_metrics_curves_and_pictures(trained):
    run, _ = trained
    metrics = json.loads((run / 'metrics.json').read_text())
    assert (metrics['checkpoint'], metrics['steps_are']) == ('best_mIoU_iter_2.pth', 'iterations')
    assert metrics['last']['mIoU'] == pytest.approx(metrics['best_score'])
    assert Image.open(run / 'curves.png').width > 300
    assert Image.open(run / 'predictions.png').width > 300


def test_the_report_has_the_iou_of_each_class_that_the_metrics_are_the_mean_of(trained):
    run, _ = trained
    report, metrics = (json.loads((run / f'{name}.json').read_text()) for name in ('report', 'metrics'))
    known = [row['IoU'] for row in report['classes'] if row['IoU'] is not None]
    assert 100 * sum(known) / len(known) == pytest.approx(metrics['best']['mIoU'], abs=0.01)
    assert report['threshold'] is None
    assert len(report['worst']) == 2
    assert '<html' in (run / 'report.html').read_text()


def test_the_best_checkpoint_tests_as_it_was_validated_and_draws(trained, run_cli, tmp_path):
    run, shapes = trained
    metrics = json.loads((run / 'metrics.json').read_text())
    arguments = ['--data-root', shapes, '--work-dir', tmp_path / 'test', '--workers', '0']
    result = run_cli(
        'test', 'deeplabv3_emo_1m_demo', run / metrics['checkpoint'], *arguments, '--show-dir', tmp_path / 'show'
    )
    assert result.code == 0
    tested = json.loads((tmp_path / 'test' / 'test_metrics.json').read_text())['metrics']
    assert tested['mIoU'] == pytest.approx(metrics['last']['mIoU'])  # both of the averaged weights
    assert len(list((tmp_path / 'show').rglob('*.png'))) == 2
    report = json.loads((tmp_path / 'test' / 'test_report.json').read_text())
    assert report['metrics']['mIoU'] == pytest.approx(tested['mIoU'])


def test_camvid_takes_the_place_of_the_demonstration_data(shared_dir, tmp_path):
    request = DataRequest(data_root=str(shared_dir / 'data' / 'camvid'))
    cfg, lines = load_run_config(
        TrainOptions('deeplabv3_emo_1m_demo', work_dir=str(tmp_path), data=request), training=True
    )
    assert cfg.model.decode_head.num_classes == cfg.model.auxiliary_head.num_classes == 11
    assert cfg.test_dataloader.dataset.data_prefix.img_path == 'img_dir/test'
    assert any('367' in line for line in lines)


def test_the_unmodified_ade20k_config_runs_on_real_images(shared_dir, run_cli, tmp_path):
    result = run_cli(
        *('train', 'pspnet_emo_1m_ade20k', '--data-root', shared_dir / 'data' / 'ade_tiny', '--weights', 'none'),
        *('--iters', '1', '--batch-size', '2', '--workers', '0', '--no-report', '--work-dir', tmp_path),
    )
    assert result.code == 0, result.err
    metrics = json.loads((tmp_path / 'metrics.json').read_text())
    assert 0 <= metrics['last']['mIoU'] <= 100
