"""A config is read once: parts inside wrappers and lists are found, each with its place, and wrong ones are named."""

from pathlib import Path

import pytest
from mmengine.config import Config

from emo_mm.config.names import get_config, list_models
from emo_mm.config.view import check_parts, read_view
from emo_mm.errors import UserError
from emo_mm.tasks import task_of_config

pytestmark = pytest.mark.toolbox


def config(**parts):
    dataset = dict(type='RepeatDataset', times=2, dataset=dict(type='CocoDataset', ann_file='a.json'))
    loader = dict(batch_size=2, dataset=dataset)
    basic = dict(
        default_scope='mmdet',
        model=dict(backbone=dict(num_classes=0), bbox_head=[dict(num_classes=3), dict(num_classes=3)]),
        train_cfg=dict(max_epochs=2),
        train_dataloader=loader,
        val_dataloader=loader,
        val_evaluator=[dict(type='CocoMetric'), dict(type='DumpDetResults')],
        optim_wrapper=dict(optimizer=dict(type='SGD')),
    )
    return Config(basic | parts)


def test_data_sets_are_found_inside_their_wrappers_with_their_places():
    view = read_view(config(), 'train')
    (dataset,) = view.splits['train'].datasets
    assert (dataset.place, dataset.node.ann_file) == ('train_dataloader.dataset.dataset', 'a.json')
    assert view.splits['test'].datasets == ()
    assert [split.name for split in view.read_splits] == ['train', 'val']


def test_evaluators_are_a_list_whether_there_is_one_or_many():
    assert [part.place for part in read_view(config(), 'train').splits['val'].evaluators] == [
        'val_evaluator.0',
        'val_evaluator.1',
    ]
    (one,) = read_view(config(val_evaluator=dict(type='CocoMetric')), 'train').splits['val'].evaluators
    assert one.place == 'val_evaluator'


def test_what_counts_classes_is_found_and_the_backbone_is_not_one_of_them():
    places = [part.place for part in read_view(config(), 'train').counting]
    assert places == ['model.bbox_head.0', 'model.bbox_head.1']


def test_splits_that_share_a_loader_get_one_each():
    cfg = config()
    view = read_view(cfg, 'train')
    view.splits['train'].datasets[0].node['ann_file'] = 'b.json'
    assert cfg.val_dataloader.dataset.dataset.ann_file == 'a.json'


@pytest.mark.parametrize(
    ('key', 'value', 'words'),
    [
        ('train_cfg', None, 'train_cfg is None; it must be a dict'),
        ('train_cfg', dict(max_epochs='3'), 'train_cfg.max_epochs'),
        ('val_dataloader', True, 'val_dataloader is True'),
        ('default_hooks', dict(logger='x'), r'default_hooks\.logger .* or None'),
        ('custom_hooks', ['x'], 'custom_hooks'),
    ],
)
def test_a_part_of_another_type_is_named(key, value, words):
    with pytest.raises(UserError, match=words):
        check_parts(config(**{key: value}), 'train')


def test_a_hook_that_is_none_is_left_out():
    cfg = config(default_hooks=dict(logger=None, timer=dict(type='IterTimerHook')))
    check_parts(cfg, 'train')
    assert list(read_view(cfg, 'train').hooks) == ['timer']


@pytest.mark.parametrize('purpose', ['train', 'test'])
def test_every_config_of_ours_can_be_read(purpose):
    for name in list_models():
        cfg = get_config(name)
        check_parts(cfg, purpose)
        view = read_view(cfg, purpose)
        assert view.task is task_of_config(Path(cfg.filename).parent.name, Path(cfg.filename).stem)
        assert all(len(split.datasets) == 1 for split in view.splits.values())
        assert view.counting
