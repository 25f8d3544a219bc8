"""The options of a run end up in its config, and wrong ones are named."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from mmengine.config import Config
from planning import apply_train_options, load_run_config, set_length

from emo_mm.config.view import read_view
from emo_mm.data.splits import DataRequest
from emo_mm.engine.options import TrainOptions
from emo_mm.engine.plan import merge, take
from emo_mm.engine.steps.data import check_work_dir, local_files, lone_class, work_dir
from emo_mm.errors import UserError


def config(by_epoch=True):
    length = dict(max_epochs=24) if by_epoch else dict(max_iters=80_000)
    return Config(
        dict(
            model=dict(
                backbone=dict(type='emo_mm.EMO', norm_eval=True, init_cfg=dict(type='Pretrained', checkpoint='emo_1m'))
            ),
            train_cfg=dict(**length, val_interval=8),
            param_scheduler=[
                dict(type='LinearLR', by_epoch=False, begin=0, end=500),
                dict(type='CosineAnnealingLR', by_epoch=by_epoch, begin=0, end=24 if by_epoch else 80_000, T_max=24),
            ],
            optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3)),
            default_hooks=dict(logger=dict(type='LoggerHook', interval=50)),
            default_scope='mmdet',
        )
    )


def test_a_shorter_training_stretches_the_schedule_but_keeps_the_warm_up():
    cfg = config()
    set_length(cfg, epochs=6, iters=None)
    assert cfg.train_cfg.max_epochs == 6
    assert cfg.train_cfg.val_interval == 6
    assert (cfg.param_scheduler[0].begin, cfg.param_scheduler[0].end) == (0, 500)
    assert (cfg.param_scheduler[1].begin, cfg.param_scheduler[1].end, cfg.param_scheduler[1].T_max) == (0, 6, 6)


def test_iterations_count_where_the_config_counts_them():
    cfg = config(by_epoch=False)
    set_length(cfg, epochs=None, iters=1000)
    assert cfg.train_cfg.max_iters == 1000
    assert cfg.param_scheduler[1].end == 1000
    assert cfg.param_scheduler[0].end == 500


@pytest.mark.parametrize(
    ('by_epoch', 'epochs', 'iters', 'flag'),
    [
        (True, None, 5, '--epochs'),
        (False, 5, None, '--iters'),
        (True, 5, 5, '--epochs'),
        (True, 0, None, '--epochs is 0'),
    ],
)
def test_a_length_in_the_wrong_unit_is_refused(by_epoch, epochs, iters, flag):
    with pytest.raises(UserError, match=flag):
        set_length(config(by_epoch), epochs, iters)


def test_training_from_scratch_unfreezes_what_was_never_trained():
    cfg = config()
    lines = apply_train_options(cfg, TrainOptions(config='x', weights='none'))
    assert 'init_cfg' not in cfg.model.backbone
    assert cfg.model.backbone.norm_eval is False
    assert any('random weights' in line and 'norm_eval=False' in line for line in lines)


def test_other_weights_replace_those_of_the_config():
    cfg = config()
    apply_train_options(cfg, TrainOptions(config='x', weights='emo_2m', lr=3e-4, seed=7))
    assert cfg.model.backbone.init_cfg == dict(type='Pretrained', checkpoint='emo_2m')
    assert cfg.model.backbone.norm_eval is True
    assert cfg.optim_wrapper.optimizer.lr == 3e-4
    assert cfg.randomness.seed == 7


def test_resuming_from_a_missing_file_is_refused():
    with pytest.raises(UserError, match=r'--resume nowhere\.pth'):
        apply_train_options(config(), TrainOptions(config='x', resume='nowhere.pth'))


def test_learning_rate_scaling_needs_the_batch_size_it_was_made_for():
    with pytest.raises(UserError, match='base_batch_size'):
        apply_train_options(config(), TrainOptions(config='x', auto_scale_lr=True))


def test_a_misspelt_option_is_refused_with_a_suggestion():
    with pytest.raises(UserError, match='did you mean train_cfg'):
        merge(config(), {'train_cgf.max_epochs': 3})


def test_known_options_are_merged_even_where_the_config_has_none():
    cfg = config()
    merge(cfg, {'randomness.seed': 3, 'train_cfg.max_epochs': 4})
    assert (cfg.randomness.seed, cfg.train_cfg.max_epochs) == (3, 4)


@pytest.mark.parametrize(
    ('flag', 'value'),
    [('batch-size', 0), ('workers', -1), ('lr', -1.0), ('lr', 0.0), ('lr', float('nan')), ('cache-gb', 0.0)],
)
def test_a_number_out_of_range_is_refused_by_its_flag(flag, value):
    options = TrainOptions('ssdlite_emo_1m_demo', **{flag.replace('-', '_'): value})
    with pytest.raises(UserError, match=f'--{flag} is .* must be'):
        load_run_config(options, training=True)


def test_a_lone_class_without_its_comma_is_one_class():
    dataset = dict(type='CocoDataset', metainfo=dict(classes='cat'))
    cfg = Config(dict(train_dataloader=dict(dataset=dataset), default_scope='mmdet'))
    take(cfg, [lone_class], TrainOptions('x'), 'train')
    assert tuple(cfg.train_dataloader.dataset.metainfo.classes) == ('cat',)


def test_many_processes_may_check_one_work_dir_at_once(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: check_work_dir(tmp_path / 'work'), range(400)))
    assert list((tmp_path / 'work').iterdir()) == []


@pytest.mark.parametrize('flag', ['data_root', 'train_ann', 'val_images', 'classes'])
def test_an_address_where_a_path_is_wanted_is_refused_by_its_flag(flag):
    with pytest.raises(UserError, match=rf'^--{flag.replace("_", "-")} s3://bucket/x: .*mount the store as a folder'):
        DataRequest(**{flag: 's3://bucket/x'})


def test_a_work_directory_is_no_address():
    options = TrainOptions('ssdlite_emo_1m_demo', work_dir='gs://bucket/runs')
    with pytest.raises(UserError, match=r'^--work-dir gs://bucket/runs: trainings and tests read and write local'):
        work_dir(read_view(config(), 'train'), options)


@pytest.mark.parametrize(('backend', 'refused'), [('petrel', True), ('http', True), ('local', False), (None, False)])
def test_data_behind_a_storage_backend_are_refused_before_anything_is_read(backend, refused):
    cfg = config()
    load = dict(type='LoadImageFromFile', backend_args=None if backend is None else dict(backend=backend))
    cfg.train_dataloader = dict(dataset=dict(type='CocoDataset', pipeline=[load]))
    view, options = read_view(cfg, 'train'), TrainOptions('x')
    if not refused:
        assert not local_files(view, options).edits
        return
    with pytest.raises(UserError, match=rf"pipeline\.0\.backend_args: backend '{backend}': .*mount the store"):
        local_files(view, options)
