"""The classification configs follow their recipe, train, and take the user's own data."""

import json

import numpy as np
import pytest
import recipes
import torch
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope
from PIL import Image
from planning import apply_train_options, load_run_config, set_length

from emo_mm.config.build import build_model
from emo_mm.config.names import get_config, list_models
from emo_mm.data.shapes.generate import generate
from emo_mm.data.shapes.painter import CLASSES
from emo_mm.data.splits import DataRequest
from emo_mm.engine.options import TrainOptions
from emo_mm.errors import UserError
from emo_mm.models.emo import ARCHS
from emo_mm.models.emov2 import ARCHS as EMOV2_ARCHS

pytestmark = pytest.mark.toolbox

PUBLISHED = [f'emo_{size}_imagenet' for size in ARCHS]
PARAMS = dict(zip(PUBLISHED, (1_361_168, 2_377_472, 5_108_848, 6_168_496), strict=True))

DISTILLED = {
    'emov2_1m_kd_imagenet': ('1m', 224, 7),
    'emov2_2m_kd_imagenet': ('2m', 224, 7),
    'emov2_5m_kd_imagenet': ('5m', 224, 7),
    'emov2_5m_512_imagenet': ('5m', 512, 8),
}


def test_every_published_classifier_has_a_config():
    v2 = {f'emov2_{size}_imagenet' for size in EMOV2_ARCHS}
    assert set(list_models('cls')) == {*PUBLISHED, *v2, *DISTILLED, 'emo_1m_demo'}


@pytest.mark.parametrize('name', PUBLISHED)
def test_the_model_has_the_published_number_of_parameters(name):
    cfg = get_config(name)
    assert (cfg.model.backbone.arch, cfg.model.backbone.window_size) == (name.split('_')[1], 7)
    assert 'drop_path_rate' not in cfg.model.backbone  # the published one of the size
    assert sum(parameter.numel() for parameter in build_model(name).parameters()) == PARAMS[name]


@pytest.mark.parametrize('name', PUBLISHED)
def test_training_is_that_of_the_recipe(name):
    cfg = get_config(name)
    assert cfg.train_cfg.max_epochs == 300
    assert cfg.train_dataloader.batch_size * 8 == cfg.auto_scale_lr.base_batch_size == 2048
    wrapper = cfg.optim_wrapper
    assert (wrapper.type, wrapper.clip_grad.max_norm) == ('AmpOptimWrapper', 5)
    assert (wrapper.optimizer.type, wrapper.optimizer.lr, wrapper.optimizer.betas) == ('AdamW', 6e-3, (0.9, 0.999))
    assert (cfg.model.head.loss.type, cfg.model.head.loss.label_smooth_val) == ('LabelSmoothLoss', 0.1)
    assert cfg.model.get('train_cfg') is None  # no mixup, no cutmix
    (average,) = [hook for hook in cfg.custom_hooks if hook.type == 'EMAHook']
    assert (average.momentum, average.update_buffers) == (pytest.approx(1 - 0.9998), True)
    model = build_model(name)
    decays = recipes.weight_decays(cfg, model)
    for parameter, value in model.named_parameters():
        assert decays[parameter] == (0 if value.ndim == 1 else 0.05), parameter


def test_emov2_halves_batch_and_rate():
    cfg = get_config('emov2_2m_imagenet')
    assert cfg.train_dataloader.batch_size * 8 == cfg.auto_scale_lr.base_batch_size == 1024
    rates = recipes.learning_rates(cfg, 60, 3)
    assert rates[0] == pytest.approx(1e-6)
    assert max(rates) == pytest.approx(3e-3)
    assert (cfg.model.backbone.type, cfg.model.backbone.window_size) == ('emo_mm.EMOv2', 7)


@pytest.mark.parametrize('name', DISTILLED)
def test_distillation_is_that_of_the_recipe_and_the_rest_as_without(name):
    arch, size, window = DISTILLED[name]
    cfg, plain = get_config(name), get_config(f'emov2_{arch}_imagenet')
    assert (cfg.model.type, cfg.model.distill_weight, cfg.model.temperature) == ('emo_mm.DistilledClassifier', 5, 1)
    assert (cfg.model.teacher.type, cfg.model.teacher.model_name) == ('TimmClassifier', 'tresnet_v2_l')
    assert (cfg.model.backbone.arch, cfg.model.backbone.window_size) == (arch, window)
    assert cfg.model.head == plain.model.head
    for key in ('optim_wrapper', 'param_scheduler', 'train_cfg', 'custom_hooks', 'auto_scale_lr'):
        assert cfg[key] == plain[key]
    assert cfg.train_dataloader.batch_size == plain.train_dataloader.batch_size == 128
    crops = [
        choice[0].scale for step in cfg.train_pipeline if step.type == 'RandomChoice' for choice in step.transforms
    ]
    assert crops == [size, size]
    assert [step.crop_size for step in cfg.test_pipeline if step.type == 'CenterCrop'] == [size]
    (augment,) = [step for step in cfg.train_dataloader.dataset.pipeline if step.type == 'RandAugment']
    assert (augment.magnitude_level, augment.magnitude_std) == (9, 0.5)


def test_the_learning_rate_warms_up_for_20_epochs_and_falls_along_a_cosine():
    length = 3
    rates = np.array(recipes.learning_rates(get_config(PUBLISHED[0]), 300 * length, length))
    warm, total = 20 * length, 300 * length
    assert rates[0] == pytest.approx(1e-6)
    assert rates.max() == pytest.approx(6e-3)
    assert np.all(np.diff(rates[:warm]) > 0)
    steps = np.arange(warm, total)
    cosine = 1e-6 + (6e-3 - 1e-6) * (1 + np.cos(np.pi * (steps - warm) / (total - warm))) / 2
    np.testing.assert_allclose(rates[warm:total], cosine, rtol=1e-3)
    assert rates[total] == pytest.approx(1e-6, rel=0.05)


def test_a_shorter_training_warms_up_for_the_same_share_of_it():
    cfg = get_config(PUBLISHED[0])
    set_length(cfg, epochs=30, iters=None)
    warm_up, cosine = cfg.param_scheduler
    assert (warm_up.begin, warm_up.end) == (0, 2)
    assert (cosine.begin, cosine.end, cosine.T_max) == (2, 30, 28)


def test_images_are_augmented_as_in_the_recipe_and_tested_at_the_centre(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)).save(tmp_path / 'image.png')
    cfg = get_config(PUBLISHED[0])
    build_model(PUBLISHED[0])  # registers the transforms
    steps = {step.type: step for step in cfg.train_pipeline}
    assert 'RandomErasing' not in steps
    augment = steps['RandAugment']
    assert (augment.policies, augment.num_policies) == ('timm_increasing', 2)
    assert (augment.magnitude_level, augment.total_level, augment.magnitude_std) == (9, 10, 0.5)
    jitter = steps['ColorJitter']
    assert (jitter.brightness, jitter.contrast, jitter.saturation) == (0.4, 0.4, 0.4)
    assert {choice[0].interpolation for choice in steps['RandomChoice'].transforms} == {'bilinear', 'bicubic'}
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        train, test = Compose(cfg.train_pipeline), Compose(cfg.test_pipeline)
        seen = [train(dict(img_path=str(tmp_path / 'image.png'), gt_label=3))['inputs'] for _ in range(20)]
        tested = test(dict(img_path=str(tmp_path / 'image.png'), gt_label=3))['inputs']
    assert {tuple(image.shape) for image in seen} == {(3, 224, 224)}
    with Image.open(tmp_path / 'image.png') as image:
        small = np.asarray(image.resize((341, 256), Image.Resampling.BICUBIC))
    expected = small[16 : 16 + 224, 58 : 58 + 224, ::-1]  # H,W,RGB -> H,W,BGR
    np.testing.assert_array_equal(tested.permute(1, 2, 0).numpy(), expected)


def test_without_a_gpu_it_trains_in_float32_and_says_so(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    cfg = get_config(PUBLISHED[0])
    lines = apply_train_options(cfg, TrainOptions(PUBLISHED[0]))
    assert any('float32' in line for line in lines)
    assert cfg.optim_wrapper.type == 'OptimWrapper'
    assert 'loss_scale' not in cfg.optim_wrapper
    with pytest.raises(UserError, match='--amp needs a GPU'):
        apply_train_options(get_config(PUBLISHED[0]), TrainOptions(PUBLISHED[0], amp=True))


def test_on_a_gpu_it_trains_in_mixed_precision(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    cfg = get_config(PUBLISHED[0])
    assert not apply_train_options(cfg, TrainOptions(PUBLISHED[0]))
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'


def test_the_demonstration_has_the_classes_of_its_data():
    cfg = get_config('emo_1m_demo')
    assert tuple(cfg.metainfo.classes) == tuple(sorted(CLASSES))
    assert cfg.model.head.num_classes == len(CLASSES)


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """The work directory of a demonstration of two epochs, and its data set."""
    from emo_mm.cli import main

    folder = tmp_path_factory.mktemp('demo')
    generate(folder / 'shapes', num_train=8, num_val=4, size=64)
    places = ['--data-root', str(folder / 'shapes'), '--work-dir', str(folder / 'run')]
    size = ['--epochs', '2', '--batch-size', '5', '--workers', '0', '--seed', '1']
    assert main(['train', 'emo_1m_demo', *places, *size]) == 0
    return folder / 'run', folder / 'shapes'


def test_the_demonstration_leaves_metrics_curves_and_pictures(trained):
    run, _ = trained
    metrics = json.loads((run / 'metrics.json').read_text())
    assert metrics['steps_are'] == 'epochs'
    assert metrics['checkpoint'].startswith('best_accuracy_top1_epoch_')
    for picture in ('curves', 'predictions'):
        assert Image.open(run / f'{picture}.png').width > 300


def test_the_report_counts_the_images_of_each_class_as_the_metrics_do(trained):
    run, _ = trained
    report, metrics = (json.loads((run / f'{name}.json').read_text()) for name in ('report', 'metrics'))
    assert [row['class'] for row in report['classes']] == sorted(CLASSES)
    matrix = np.array(report['confusion']['matrix'])
    assert matrix.sum() == sum(row['images'] for row in report['classes'])
    assert 100 * np.trace(matrix) / matrix.sum() == pytest.approx(metrics['best']['accuracy/top1'])
    assert report['metrics'] == metrics['best']
    assert '<html' in (run / 'report.html').read_text()


def test_the_averaged_weights_are_what_is_saved_and_validated(trained, run_cli, tmp_path):
    run, shapes = trained
    metrics = json.loads((run / 'metrics.json').read_text())
    checkpoint = torch.load(run / 'epoch_2.pth', weights_only=True)
    name = 'head.fc.weight'
    assert not torch.equal(checkpoint['state_dict'][name], checkpoint['ema_state_dict'][f'module.{name}'])
    arguments = ['--data-root', shapes, '--work-dir', tmp_path / 'test', '--workers', '0']
    result = run_cli('test', 'emo_1m_demo', run / 'epoch_2.pth', *arguments, '--show-dir', tmp_path / 'show')
    assert result.code == 0, result.err
    tested = json.loads((tmp_path / 'test' / 'test_metrics.json').read_text())['metrics']
    assert tested['accuracy/top1'] == pytest.approx(metrics['last']['accuracy/top1'])
    assert list((tmp_path / 'show').rglob('*.png'))


def test_trashnet_takes_the_place_of_the_demonstration_data(shared_dir, tmp_path):
    request = DataRequest(data_root=str(shared_dir / 'data' / 'trashnet'))
    cfg, lines = load_run_config(TrainOptions('emo_1m_demo', work_dir=str(tmp_path), data=request), training=True)
    assert cfg.model.head.num_classes == 6
    assert cfg.test_dataloader.dataset.data_prefix == 'test'
    assert any('1768' in line for line in lines)


def test_the_unmodified_imagenet_config_runs_on_real_images(shared_dir, run_cli, tmp_path):
    result = run_cli(
        *('train', 'emo_1m_imagenet', '--data-root', shared_dir / 'data' / 'imagenet_tiny', '--weights', 'none'),
        *('--epochs', '1', '--batch-size', '20', '--workers', '0', '--work-dir', tmp_path),
    )
    assert result.code == 0, result.err
    assert 'float32' in result.out or torch.cuda.is_available()
    metrics = json.loads((tmp_path / 'metrics.json').read_text())
    assert 0 <= metrics['last']['accuracy/top1'] <= 100
