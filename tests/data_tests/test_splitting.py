"""Data sets without splits, cut into some: what goes where, and what a run then reads."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from data_trees import annotations, build, write_folders, write_pairs, write_split
from exploring import explore, few_or_many
from hypothesis import strategies as st
from PIL import Image
from planning import load_run_config

from emo_mm.data.splits import DataRequest
from emo_mm.data.splitting import Item, divide, parse_ratios
from emo_mm.engine.options import TrainOptions
from emo_mm.errors import UserError

RATIOS = st.sampled_from(['0.8/0.2', '0.5/0.5', '0.8/0.1/0.1', '70/20/10']).map(parse_ratios)


def plain(labels: list[str]) -> list[Item]:
    """Items whose names tell of no group."""
    return [Item(f'{index:04d}.jpg', frozenset((label,))) for index, label in enumerate(labels)]


# --- what goes where
@few_or_many(40, 2000)
def test_each_item_is_in_one_split_and_each_class_is_shared_out_within_rounding(examples: int) -> None:
    def check(case: tuple[list[str], dict[str, float], int]) -> None:
        labels, ratios, seed = case
        kept = divide(plain(labels), ratios, seed).kept
        assert sorted(index for indices in kept.values() for index in indices) == list(range(len(labels)))
        for label, number in Counter(labels).items():
            for split, ratio in ratios.items():
                got = sum(labels[index] == label for index in kept[split])
                assert abs(got - number * ratio) < 1 + 1e-6

    labels = st.lists(st.sampled_from('abc'), min_size=30, max_size=90)
    explore(check, st.tuples(labels, RATIOS, st.integers(0, 9)), examples)


@few_or_many(40, 2000)
def test_copies_of_one_image_stay_together(examples: int) -> None:
    def check(case: tuple[list[int], int]) -> None:
        sizes, seed = case
        items = [
            Item(f'photo{group}a_jpg.rf.{copy:032x}.jpg') for group, size in enumerate(sizes) for copy in range(size)
        ]
        kept = divide(items, parse_ratios('0.7/0.3'), seed).kept
        groups = {split: {items[index].name.split('.rf.')[0] for index in some} for split, some in kept.items()}
        assert not groups['train'] & groups['val']

    sizes = st.lists(st.integers(1, 4), min_size=12, max_size=40)
    explore(check, st.tuples(sizes, st.integers(0, 9)), examples)


def test_frames_of_one_video_stay_together() -> None:
    items = [Item(f'video{video}_{frame:04d}.jpg') for video in range(10) for frame in range(5)]
    divided = divide(items, parse_ratios('0.8/0.2'))
    videos = {split: {items[index].name.split('_')[0] for index in some} for split, some in divided.kept.items()}
    assert (len(videos['train']), len(videos['val'])) == (8, 2)
    assert divided.how == '10 groups of 50 images whose names differ in their end only kept together'
    apart = divide(items, parse_ratios('0.8/0.2'), grouped=False)
    assert apart.how == 'each image by itself'


def test_names_that_all_begin_alike_make_no_groups() -> None:
    divided = divide([Item(f'frame_{index:04d}.jpg') for index in range(10)], parse_ratios('0.8/0.2'))
    assert (len(divided.kept['train']), divided.how) == (8, 'each image by itself')


def test_groups_that_leave_no_such_shares_are_parted_and_that_is_told() -> None:
    items = [Item(f'{name}_{index}.jpg') for name, number in (('a', 19), ('b', 1)) for index in range(number)]
    divided = divide(items, parse_ratios('0.5/0.5'))
    assert len(divided.kept['val']) == 10
    assert 'would leave no such shares' in divided.how


def test_the_division_is_the_same_each_time_and_another_with_another_seed() -> None:
    items = plain(['a'] * 20)
    first = divide(items, parse_ratios('0.8/0.2')).kept
    assert first['val'] == [3, 9, 13, 19] == divide(items, parse_ratios('0.8/0.2')).kept['val']
    assert divide(items, parse_ratios('0.8/0.2'), seed=1).kept != first


def test_an_image_counts_for_the_rarest_of_its_classes() -> None:
    items = [Item(f'{index:04d}.jpg', frozenset(('car', 'bus') if index < 5 else ('car',))) for index in range(50)]
    kept = divide(items, parse_ratios('0.8/0.2')).kept
    assert sum(index < 5 for index in kept['val']) == 1


@pytest.mark.parametrize('text', ['0.8', '0.8/0.3', '1/0', '0.8/0.2/x', '0.7/0.1/0.1/0.1', '-0.2/1.2', 'nan/nan'])
def test_shares_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UserError, match=r'--split .*0\.8/0\.2 or 0\.8/0\.1/0\.1'):
        parse_ratios(text)


def test_too_few_images_are_refused() -> None:
    with pytest.raises(UserError, match='2 images are too few, val would be empty'):
        divide(plain(['a', 'b']), parse_ratios('0.8/0.2'))


def test_a_class_that_train_would_lack_is_named() -> None:
    copies = [Item(f'x.rf.{index}.jpg', frozenset(('rare',))) for index in range(9)]
    with pytest.raises(UserError, match='train would have no image of rare'):
        divide([*copies, Item('y.jpg', frozenset(('b',)))], parse_ratios('0.1/0.9'))


# --- what a run reads
def run(root: Path, config: str, split: str | None = '0.8/0.2', **more: object) -> TrainOptions:
    data = DataRequest(data_root=str(root), split=split)
    return TrainOptions(config, work_dir=str(root.parent / 'run'), data=data, **more)  # type: ignore[arg-type]


@pytest.mark.toolbox
@pytest.mark.parametrize(
    ('ann_file', 'images'),
    [
        ('annotations.json', 'images'),
        ('annotations/instances_default.json', 'images/default'),
        ('train/_annotations.coco.json', 'train'),
        ('result.json', '.'),
        ('annotations/train.json', 'images/train'),
        ('cells.json', 'images'),
    ],
)
def test_an_annotation_file_without_splits_is_cut(tmp_path: Path, ann_file: str, images: str) -> None:
    root = tmp_path / 'data'
    write_split(root / ann_file, root / images, annotations(images=10))
    before = sorted(root.rglob('*'))
    cfg, lines = load_run_config(run(root, 'ssdlite_emo_1m_demo'), training=True)
    assert lines[0].startswith('--split 0.8/0.2: 10 images divided into train 8, val 2 (seed 0); ')
    lists = tmp_path / 'run' / 'checked_data'
    contents = {split: json.loads((lists / f'split_{split}.json').read_text()) for split in ('train', 'val')}
    names = {split: {image['file_name'] for image in content['images']} for split, content in contents.items()}
    assert names['train'] | names['val'] == {f'{index}.jpg' for index in range(10)}
    assert not names['train'] & names['val']
    assert cfg.val_evaluator.ann_file == cfg.val_dataloader.dataset.ann_file == str(lists / 'split_val.json')
    assert (len(build(cfg, 'train')), len(build(cfg, 'val'))) == (8, 2)
    assert sorted(root.rglob('*')) == before


@pytest.mark.toolbox
@pytest.mark.parametrize('below', ['', 'train'])
def test_class_folders_without_splits_are_cut(tmp_path: Path, below: str) -> None:
    root = tmp_path / 'data'
    for name in ('glass', 'old paper'):
        (root / below / name).mkdir(parents=True)
        for index in range(10):
            Image.new('RGB', (8, 8)).save(root / below / name / f'{name}_{index}.png')
    cfg, _ = load_run_config(run(root, 'emo_1m_demo', '0.8/0.1/0.1'), training=True)
    found = {split: build(cfg, split) for split in ('train', 'val', 'test')}
    assert {split: len(dataset) for split, dataset in found.items()} == {'train': 16, 'val': 2, 'test': 2}
    for dataset in found.values():
        infos = [dataset.get_data_info(index) for index in range(len(dataset))]
        assert {(Path(info['img_path']).parent.name, info['gt_label']) for info in infos} == {
            ('glass', 0),
            ('old paper', 1),
        }


@pytest.mark.toolbox
def test_images_and_masks_without_splits_are_cut(tmp_path: Path) -> None:
    root = tmp_path / 'data'
    write_pairs(root / 'images', root / 'masks', number=10)
    (root / 'CLASSES.txt').write_text('sky\nroad\ncar\n')
    cfg, _ = load_run_config(run(root, 'deeplabv3_emo_1m_demo'), training=True)
    assert (len(build(cfg, 'train')), len(build(cfg, 'val'))) == (8, 2)


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    root = tmp_path / 'data'
    write_split(root / 'annotations.json', root / 'images', annotations(images=10))
    load_run_config(run(root, 'ssdlite_emo_1m_demo', dry_run=True), training=True)
    assert not (tmp_path / 'run').exists()


def test_a_data_set_that_has_the_split_is_not_cut(tmp_path: Path) -> None:
    write_folders(tmp_path / 'data')
    with pytest.raises(UserError, match='has a val split already; leave --split out'):
        load_run_config(run(tmp_path / 'data', 'emo_1m_demo'), training=True)


def test_without_splits_and_flags_both_ways_are_named(tmp_path: Path) -> None:
    root = tmp_path / 'data'
    write_folders(root, splits=('train',))
    with pytest.raises(UserError, match=r'val split .*--split 0\.8/0\.2.*--no-val'):
        load_run_config(run(root, 'emo_1m_demo', split=None), training=True)
    with pytest.raises(UserError, match='--no-val and --split exclude each other'):
        load_run_config(run(root, 'emo_1m_demo', no_val=True), training=True)
