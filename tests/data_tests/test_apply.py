"""Own data in a config: what changes in it, and what the toolboxes' own data sets then read."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from data_trees import annotations, build, shared, write_coco, write_folders, write_masks, write_split
from mmengine.config import Config
from planning import apply_data, check_data

from emo_mm.config.view import read_view
from emo_mm.data.splits import DataRequest
from emo_mm.errors import UserError

pytestmark = pytest.mark.toolbox


def det_config() -> Config:
    """The data part of a detector's config, as the toolbox writes it: test shares val's dicts."""
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='PackDetInputs'),
    ]
    val = dict(
        dataset=dict(
            type='CocoDataset',
            data_root='data/coco/',
            ann_file='annotations/instances_val2017.json',
            data_prefix=dict(img='val2017/'),
            test_mode=True,
            pipeline=pipeline,
        )
    )
    evaluator = dict(type='CocoMetric', ann_file='data/coco/annotations/instances_val2017.json', metric='bbox')
    train = dict(
        type='CocoDataset',
        data_root='data/coco/',
        ann_file='annotations/instances_train2017.json',
        data_prefix=dict(img='train2017/'),
        filter_cfg=dict(filter_empty_gt=True, min_size=1),
        pipeline=pipeline,
    )
    return Config(
        dict(
            default_scope='mmdet',
            data_root='data/coco/',
            model=dict(
                backbone=dict(type='TIMMBackbone', num_classes=0),
                rpn_head=dict(num_classes=1),
                roi_head=dict(bbox_head=[dict(num_classes=80), dict(num_classes=80)], mask_head=dict(num_classes=80)),
            ),
            train_dataloader=dict(dataset=dict(type='RepeatDataset', times=2, dataset=train)),
            val_dataloader=val,
            test_dataloader=val,
            val_evaluator=evaluator,
            test_evaluator=[evaluator],
        )
    )


def seg_config() -> Config:
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', reduce_zero_label=True),
        dict(type='PackSegInputs'),
    ]

    def loader(split: str) -> dict[str, Any]:
        prefix = dict(img_path=f'images/{split}', seg_map_path=f'annotations/{split}')
        return dict(dataset=dict(type='ADE20KDataset', data_root='data/ade', data_prefix=prefix, pipeline=pipeline))

    evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
    return Config(
        dict(
            default_scope='mmseg',
            model=dict(decode_head=dict(num_classes=150), auxiliary_head=[dict(num_classes=150)]),
            train_dataloader=loader('training'),
            val_dataloader=loader('validation'),
            test_dataloader=loader('validation'),
            test_pipeline=pipeline,
            val_evaluator=evaluator,
            test_evaluator=evaluator,
        )
    )


def cls_config() -> Config:
    pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]

    def loader(split: str) -> dict[str, Any]:
        return dict(dataset=dict(type='ImageNet', data_root='data/imagenet', split=split, pipeline=pipeline))

    evaluator = dict(type='Accuracy', topk=(1, 5))
    return Config(
        dict(
            default_scope='mmpretrain',
            data_preprocessor=dict(num_classes=1000),
            model=dict(head=dict(type='LinearClsHead', num_classes=1000, topk=(1, 5))),
            train_dataloader=loader('train'),
            val_dataloader=loader('val'),
            test_dataloader=loader('val'),
            val_evaluator=evaluator,
            test_evaluator=evaluator,
        )
    )


def flat(node: Any, name: str = '') -> dict[str, Any]:
    """Every value of a config by its dotted name."""
    if isinstance(node, dict):
        return {k: v for key, value in node.items() for k, v in flat(value, f'{name}.{key}').items()}
    if isinstance(node, list):
        return {k: v for i, value in enumerate(node) for k, v in flat(value, f'{name}.{i}').items()}
    return {name: node}


def changes(cfg: Config, original: Config) -> dict[str, Any]:
    """The values in which a config differs, none of them new or gone."""
    now, then = flat(cfg._cfg_dict), flat(original._cfg_dict)
    assert now.keys() == then.keys()
    return {name: value for name, value in now.items() if value != then[name]}


# --- detection
def test_detector_takes_classes_files_and_evaluators(tmp_path: Path) -> None:
    request = write_coco(tmp_path)
    cfg = det_config()
    lines = apply_data(cfg, request)
    assert lines[0].startswith('train: annotations/train.json: 3 of 3 images found')
    assert lines[-1].startswith('test: there is no test split')
    roi_head = cfg.model.roi_head
    assert [head.num_classes for head in (*roi_head.bbox_head, roi_head.mask_head)] == [2, 2, 2]
    assert (cfg.model.backbone.num_classes, cfg.model.rpn_head.num_classes) == (0, 1)
    assert cfg.data_root == str(tmp_path)
    assert cfg.val_evaluator.ann_file == cfg.test_evaluator[0].ann_file == f'{tmp_path}/annotations/val.json'
    train, val = build(cfg, 'train'), build(cfg, 'val')
    assert train.metainfo['classes'] == val.metainfo['classes'] == ('cat', 'dog')
    assert len(train.metainfo['palette']) == 2
    assert (len(train), len(val)) == (2 * 3, 2)
    assert check_data(cfg)[0] == lines[0]


def test_labels_follow_the_order_of_the_file_not_of_the_ids(tmp_path: Path) -> None:
    content = annotations(('dog', 'cat'))
    content['categories'] = [{'id': 11, 'name': 'cat'}, {'id': 10, 'name': 'dog'}]
    cfg = det_config()
    apply_data(cfg, write_coco(tmp_path, content, content))
    dataset = build(cfg, 'val')
    names = dataset.metainfo['classes']
    drawn = [names[dataset.get_data_info(i)['instances'][0]['bbox_label']] for i in range(3)]
    assert drawn == ['dog', 'cat', 'dog']


def test_test_split_gets_its_own_files(tmp_path: Path) -> None:
    request = write_coco(tmp_path)
    write_split(tmp_path / 'annotations' / 'test.json', tmp_path / 'images', annotations(images=1))
    cfg = det_config()
    apply_data(cfg, request)
    assert cfg.test_evaluator[0].ann_file == f'{tmp_path}/annotations/test.json'
    assert cfg.val_evaluator.ann_file == f'{tmp_path}/annotations/val.json'
    assert len(build(cfg, 'test')) == 1


def test_testing_changes_the_test_split_only(tmp_path: Path) -> None:
    write_split(tmp_path / 'annotations' / 'test.json', tmp_path / 'images', annotations())
    cfg = det_config()
    apply_data(cfg, DataRequest(data_root=str(tmp_path)), training=False)
    assert cfg.test_dataloader.dataset.ann_file == 'annotations/test.json'
    assert cfg.train_dataloader == det_config().train_dataloader


def test_coco_tree_only_moves_the_root() -> None:
    request = shared('coco_tiny')
    cfg, original = det_config(), det_config()
    apply_data(cfg, request)
    assert {name.rpartition('.')[2] for name in changes(cfg, original)} == {'data_root', 'ann_file'}
    assert all('coco_tiny' in value for value in changes(cfg, original).values())
    assert len(build(cfg, 'val').metainfo['classes']) == 80


def test_bccd_reaches_the_data_set() -> None:
    cfg = det_config()
    apply_data(cfg, shared('bccd'))
    train = build(cfg, 'train')
    assert train.metainfo['classes'] == ('RBC', 'WBC', 'Platelets')
    assert len(train) == 2 * 205
    assert sum(len(train.dataset.get_data_info(i)['instances']) for i in range(205)) == 2804


def test_joined_data_sets_are_not_guessed_at(tmp_path: Path) -> None:
    cfg = det_config()
    leaf = cfg.train_dataloader.dataset.dataset
    cfg.train_dataloader.dataset = dict(type='ConcatDataset', datasets=[leaf, leaf])
    with pytest.raises(UserError, match='joins 2 data sets'):
        apply_data(cfg, write_coco(tmp_path))


def test_a_model_without_num_classes_is_refused(tmp_path: Path) -> None:
    cfg = det_config()
    cfg.model = dict(backbone=dict(num_classes=0))
    with pytest.raises(UserError, match='no part of the detector has num_classes'):
        apply_data(cfg, write_coco(tmp_path))


# --- segmentation
def test_segmenter_takes_classes_suffixes_and_unshifted_labels(tmp_path: Path) -> None:
    cfg = seg_config()
    lines = apply_data(cfg, write_masks(tmp_path))
    assert lines[0] == '3 classes from CLASSES.txt: sky, road, car'
    assert cfg.model.decode_head.num_classes == cfg.model.auxiliary_head[0].num_classes == 3
    assert cfg.test_pipeline[1].reduce_zero_label is False
    dataset = build(cfg, 'train')
    assert dataset.metainfo['classes'] == ('sky', 'road', 'car')
    labels = dataset[0]['data_samples'].gt_sem_seg.data
    assert sorted(labels.unique().tolist()) == [0, 1, 2, 255]
    assert len(check_data(cfg)) == 2


def test_camvid_reaches_the_data_set() -> None:
    cfg = seg_config()
    apply_data(cfg, shared('camvid'))
    assert [len(build(cfg, split)) for split in ('train', 'val', 'test')] == [367, 101, 233]
    labels = build(cfg, 'val')[0]['data_samples'].gt_sem_seg.data.unique().tolist()
    assert set(labels) <= {*range(11), 255}
    assert len(labels) > 5


def test_ade20k_tree_only_moves_the_root() -> None:
    cfg, original = seg_config(), seg_config()
    lines = apply_data(cfg, shared('ade_tiny'))
    assert "the config's own classes are kept" in lines[-1]
    assert len(changes(cfg, original)) == 3
    assert all('ade_tiny' in value for value in changes(cfg, original).values())
    dataset = build(cfg, 'train')
    assert (len(dataset.metainfo['classes']), dataset.reduce_zero_label) == (150, True)


# --- classification
def test_classifier_takes_classes_and_drops_top_5(tmp_path: Path) -> None:
    cfg = cls_config()
    lines = apply_data(cfg, write_folders(tmp_path))
    assert 'top-5 accuracy left out, there are 2 classes' in lines
    assert (cfg.model.head.num_classes, cfg.data_preprocessor.num_classes) == (2, 2)
    assert cfg.val_evaluator.topk == cfg.model.head.topk == (1,)
    dataset = build(cfg, 'train')
    assert dataset.metainfo['classes'] == ('glass', 'paper')
    assert dataset.get_gt_labels().tolist() == [0, 1, 1]
    assert len(check_data(cfg)) == 2


@pytest.mark.parametrize(('name', 'classes', 'topk'), [('trashnet', 6, (1, 5)), ('imagenet_tiny', 40, (1, 5))])
def test_class_folders_reach_the_data_set(name: str, classes: int, topk: tuple[int, ...]) -> None:
    cfg = cls_config()
    apply_data(cfg, shared(name))
    assert len(build(cfg, 'train').metainfo['classes']) == cfg.model.head.num_classes == classes
    assert cfg.val_evaluator.topk == topk


def test_a_full_imagenet_tree_only_moves_the_root(tmp_path: Path) -> None:
    for split in ('train', 'val'):
        for index in range(1000):
            (tmp_path / split / f'n{index:08d}').mkdir(parents=True)
        (tmp_path / split / 'n00000000' / '0.jpg').touch()
    cfg, original = cls_config(), cls_config()
    apply_data(cfg, DataRequest(data_root=str(tmp_path)))
    assert set(changes(cfg, original).values()) == {tmp_path.as_posix()}


def test_an_unknown_scope_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='default_scope'):
        apply_data(Config(dict(default_scope='mmyolo')), DataRequest(data_root=str(tmp_path)))


# --- before training
@pytest.mark.parametrize(
    ('make', 'wanted'),
    [
        (det_config, ['instances_train2017.json', 'annotations_trainval2017.zip', 'cocodataset.org']),
        (seg_config, ['    annotations/\n      training/', 'ADEChallengeData2016.zip', 'csail.mit.edu']),
        (cls_config, ['      <class>/\n        <image>', 'ILSVRC2012_img_train.tar', 'image-net.org']),
    ],
)
def test_missing_data_tell_the_tree_and_its_source(
    make: Any, wanted: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for training in (True, False):
        with pytest.raises(UserError) as raised:
            check_data(make(), training)
        text = str(raised.value)
        assert text.startswith('data/')
        assert all(part in text for part in [*wanted, '--data-root DIR', 'make demo'])
        assert text.count('.json') <= 3  # the missing file, and each file of the tree once


def test_classes_that_do_not_fit_the_config_are_refused(tmp_path: Path) -> None:
    write_coco(tmp_path)
    cfg = det_config()
    apply_data(cfg, DataRequest(data_root=str(tmp_path)))
    content = json.loads((tmp_path / 'annotations' / 'train.json').read_text())
    content['categories'][1]['name'] = 'cow'
    (tmp_path / 'annotations' / 'train.json').write_text(json.dumps(content))
    with pytest.raises(UserError, match='has the classes cat, cow, but the config needs cat, dog'):
        check_data(cfg)


def test_a_head_of_another_size_is_refused(tmp_path: Path) -> None:
    cfg = cls_config()
    apply_data(cfg, write_folders(tmp_path))
    cfg.model.head.num_classes = 7
    with pytest.raises(UserError, match='num_classes=7 but the data set has 2 classes'):
        check_data(cfg)


def test_nothing_given_is_known_as_such() -> None:
    assert not DataRequest().given
    assert DataRequest(data_root='x').only_root
    assert not DataRequest(data_root='x', classes='y').only_root


def test_boxes_marked_as_crowds_are_not_counted_as_trained_on(tmp_path: Path) -> None:
    content = annotations(images=4)
    content['annotations'][0]['iscrowd'] = 1
    lines = apply_data(det_config(), write_coco(tmp_path, content))
    assert any('4 of 4 images found, 3 boxes' in line for line in lines)
    assert any('1 box marked iscrowd' in line for line in lines)
    for box in content['annotations']:
        box['iscrowd'] = 1
    with pytest.raises(UserError, match='4 marked iscrowd=1'):
        apply_data(det_config(), write_coco(tmp_path / 'all', content))


@pytest.mark.parametrize('wrapped', [False, True])
def test_images_that_mmdet_leaves_out_are_counted(tmp_path: Path, wrapped: bool) -> None:
    content = annotations(images=6)
    content['annotations'] = content['annotations'][:4]
    content['images'][0]['height'] = 8
    request, cfg = write_coco(tmp_path, content), det_config()
    dataset = cfg.train_dataloader.dataset
    while 'dataset' in dataset:
        dataset = dataset['dataset']
    dataset.filter_cfg = dict(filter_empty_gt=True, min_size=16)
    cfg.train_dataloader.dataset = dict(type='RepeatDataset', times=2, dataset=dataset) if wrapped else dataset
    lines = apply_data(cfg, request)
    place = 'dataset.dataset.filter_cfg' if wrapped else 'train_dataloader.dataset.filter_cfg'
    assert any('1 of 6 images left out: less than 16 pixels' in line and place in line for line in lines)
    assert any('2 of 6 images left out: no box' in line and '--keep-empty' in line for line in lines)
    read_view(cfg, 'train').only_dataset('train').node.filter_cfg.min_size = 64
    with pytest.raises(UserError, match='no image is left to train on'):
        apply_data(cfg, request)


def test_the_images_that_are_said_to_be_left_out_are_those_that_mmdet_leaves_out(tmp_path: Path) -> None:
    """Also where an image has boxes of classes that are not trained, unusable boxes or crowds only."""
    content = annotations(('cat', 'dog'), images=8)
    boxes = content['annotations']
    boxes[0]['iscrowd'] = 1  # stays: an image of a crowd
    boxes[1]['bbox'] = [4, 4, 0, 0]  # a dog of no size; not trained
    boxes[2]['bbox'] = [4, 4, 0, 0]  # a cat of no size: mmdet keeps the image
    content['annotations'] = boxes[:6]
    content['images'][4]['width'] = 8
    request, cfg = write_coco(tmp_path, content), det_config()
    (tmp_path / 'cats.txt').write_text('cat\n')
    dataset = read_view(cfg, 'train').only_dataset('train').node
    dataset.filter_cfg = dict(filter_empty_gt=True, min_size=16)
    lines = apply_data(cfg, replace(request, classes=str(tmp_path / 'cats.txt')), tolerant=True)
    said = [int(found[1]) for line in lines if (found := re.match(r'train: (\d+) of 8 images left out', line))]
    assert said == [1, 5]
    assert len(build(cfg, 'train').dataset) == 8 - sum(said)  # inside RepeatDataset
    again = check_data(cfg, training=True, tolerant=True)  # the same words where a config names the data itself
    assert [line for line in again if 'images left out' in line] == [
        line for line in lines if 'images left out' in line
    ]
