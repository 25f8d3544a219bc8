"""``--cfg-options`` that nothing reads or that cannot work, and metrics that no validation gives: told
before anything is built."""

import pytest
from planning import load_run_config, take

from emo_mm.config.names import get_config
from emo_mm.engine.options import TrainOptions
from emo_mm.engine.overrides import merge
from emo_mm.engine.steps import monitors
from emo_mm.errors import UserError

DET, SEG, CLS = 'ssdlite_emo_1m_demo', 'deeplabv3_emo_1m_demo', 'emo_1m_demo'


@pytest.fixture(scope='module')
def configs():
    return {name: get_config(name).to_dict() for name in (DET, SEG, CLS)}


@pytest.mark.parametrize(
    ('key', 'value', 'said'),
    [
        ('train_dataloader.batchsize', 4, "nothing reads 'batchsize' in train_dataloader; did you mean batch_size?"),
        ('val_dataloader.num_worker', 4, 'did you mean num_workers?'),
        ('env_cfg.cudnn_benchmrk', True, 'did you mean cudnn_benchmark?'),
        ('randomness.sed', 1, 'did you mean seed?'),
        ('default_hooks.checkpoint.intervall', 2, "CheckpointHook has no argument 'intervall'; did you mean interval?"),
        ('train_dataloader.dataset.pipline', [], 'did you mean pipeline?'),
        ('default_hooks.chekpoint', None, "default_hooks has no 'chekpoint'; did you mean checkpoint?"),
        ('model.train_cfg.asigner', 1, 'did you mean assigner?'),
        ('model.bbox_head.anchor_generator.min_sizes', [1, 2], 'SSDAnchorGenerator does not take these arguments'),
        (
            'optim_wrapper.optimizer.lr',
            [0, 1],
            'is a list of 2, as a comma makes one, and must be one number; decimals',
        ),
        ('train_dataloader.batch_size', [4, 5], 'must be one number'),
    ],
)
def test_an_option_that_cannot_work_is_told_with_its_key_and_the_cause(key, value, said, configs):
    with pytest.raises(UserError) as error:
        merge(get_config(DET), {key: value})
    assert str(error.value).startswith(f'--cfg-options {key}: ')
    assert said in str(error.value)


@pytest.mark.parametrize(
    ('config', 'key', 'said'),
    [
        (DET, 'max_epochs', 'set --epochs or train_cfg.max_epochs'),
        (DET, 'vis_backends.0.type', 'set visualizer.vis_backends.0.type'),
        (DET, 'dataset_type', 'set train_dataloader.dataset.type, val_dataloader.dataset.type, test_dataloader'),
        (DET, 'data_root', 'set --data-root or train_dataloader.dataset.data_root'),
        (DET, 'input_size', 'set train_dataloader.dataset.pipeline.3.scale'),
        (DET, 'train_pipeline.0.backend_args', 'set train_dataloader.dataset.pipeline.0.backend_args'),
        (DET, 'lr', "the config has no 'lr'; set --lr or optim_wrapper.optimizer.lr"),
        (CLS, 'lr', 'set --lr or optim_wrapper.optimizer.lr'),
        (SEG, 'max_iters', 'set --iters or train_cfg.max_iters'),
        (DET, 'seed', 'set --seed or randomness.seed'),
    ],
)
def test_a_variable_of_the_file_that_nothing_reads_is_refused_with_the_key_that_is_read(config, key, said):
    with pytest.raises(UserError) as error:
        merge(get_config(config), {key: 3})
    assert said in str(error.value)


@pytest.mark.parametrize(
    'changes',
    [
        {'train_dataloader.prefetch_factor': 4},
        {'train_dataloader.num_batch_per_epoch': 4},
        {'optim_wrapper.clip_grad.max_norm': 1.0},
        {'optim_wrapper.optimizer.betas': [0.9, 0.95]},
        {'default_hooks.checkpoint.save_optimizer': False},
        {'model.bbox_head.anchor_generator.min_sizes': [30, 80, 120, 160, 200, 230]},
        {'experiment_name': 'x'},
        {'model.backbone.drop_path_rate': 0.1},
        {'train_dataloader.dataset.indices': 12},
    ],
)
def test_options_that_something_reads_are_taken(changes):
    cfg = get_config(DET)
    merge(cfg, changes)
    for key, value in changes.items():
        assert cfg.get(key.split('.')[0]) is not None, value


@pytest.mark.parametrize(
    ('config', 'metric', 'said'),
    [
        (DET, 'bbox_mAP', 'did you mean coco/bbox_mAP?'),
        (DET, 'coco/segm_mAP', "'coco/segm_mAP', which the validation does not compute: it gives coco/bbox_mAP, "),
        (SEG, 'miou', 'did you mean mIoU?'),
        (CLS, 'top1', 'did you mean accuracy/top1?'),
    ],
)
def test_a_best_metric_that_the_validation_does_not_give_is_told_before_training(config, metric, said):
    cfg = get_config(config)
    merge(cfg, {'default_hooks.checkpoint.save_best': metric})
    with pytest.raises(UserError) as error:
        take(cfg, [monitors.watched_metrics], TrainOptions(config), 'train')
    assert str(error.value).startswith('default_hooks.checkpoint.save_best is ')
    assert said in str(error.value)


@pytest.mark.parametrize(
    ('config', 'metric'),
    [(DET, 'coco/bbox_mAP_75'), (DET, 'auto'), (SEG, 'mIoU'), (SEG, 'aAcc'), (CLS, 'accuracy/top1'), (DET, None)],
)
def test_a_best_metric_that_the_validation_gives_is_taken(config, metric):
    cfg = get_config(config)
    merge(cfg, {'default_hooks.checkpoint.save_best': metric})
    assert take(cfg, [monitors.watched_metrics], TrainOptions(config), 'train') == ([], [])


def test_what_an_early_stop_watches_is_checked_likewise():
    cfg = get_config(SEG)
    cfg.custom_hooks = [dict(type='EarlyStoppingHook', monitor='val/mIoU')]
    with pytest.raises(UserError, match=r"custom_hooks\.0\.monitor is 'val/mIoU'.*mIoU"):
        take(cfg, [monitors.watched_metrics], TrainOptions(SEG), 'train')


def test_an_unknown_metric_may_give_anything():
    cfg = get_config(DET)
    cfg.val_evaluator = dict(type='MyMetric')
    cfg.default_hooks.checkpoint.save_best = 'mine'
    assert take(cfg, [monitors.watched_metrics], TrainOptions(DET), 'train') == ([], [])


def test_a_wrong_metric_is_told_before_the_data_are_read(tmp_path):
    options = TrainOptions(DET, work_dir=str(tmp_path), cfg_options={'default_hooks.checkpoint.save_best': 'bbox_mAP'})
    with pytest.raises(UserError, match='did you mean coco/bbox_mAP'):
        load_run_config(options, training=True)
