"""``emo-mm data convert``: what is written in another format is read as the source was."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_trees import annotations, masks_read, write_coco
from outline_trees import (
    HEIGHT,
    MASKS,
    TREES,
    WIDTH,
    coco,
    coco_content,
    corners,
    files_of,
    images,
    label_studio,
    labelme,
    labelme_file,
    labelme_polygon,
    mask_of,
    rle,
    shape,
)
from PIL import Image
from planning import load_run_config

from emo_mm.data.layouts import layout_of_folder
from emo_mm.data.layouts.masks import MASKS as MASK_LAYOUT
from emo_mm.data.splits import DataRequest
from emo_mm.engine.options import TrainOptions
from emo_mm.tasks import TASKS

pytestmark = pytest.mark.toolbox
COLOURS = np.array([(0, 0, 0), (220, 30, 30), (30, 200, 40)], np.uint8)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('EMO_MM_CACHE', str(tmp_path / 'cache'))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / 'data'


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return tmp_path / 'new'


def masks_in(folder: Path, split: str) -> dict[str, np.ndarray]:
    """The labels that a training reads of a folder to which no flag belongs."""
    request = DataRequest(data_root=str(folder))
    assert layout_of_folder(request, TASKS['seg']) is MASK_LAYOUT
    sources = MASK_LAYOUT.resolve(request).splits[split].sources()
    return {Path(name).stem: source.make() for name, source in sources.items()}


def same(folder: Path, masks: dict[str, dict[str, np.ndarray]]) -> bool:
    found = {split: masks_in(folder, split) for split in masks}
    return all(
        found[split].keys() == of.keys() and all(np.array_equal(found[split][name], mask) for name, mask in of.items())
        for split, of in masks.items()
    )


def classes_of(folder: Path) -> tuple[str, ...]:
    return MASK_LAYOUT.resolve(DataRequest(data_root=str(folder))).classes


# --- to masks
@pytest.mark.parametrize('name', TREES)
def test_outlines_of_any_format_become_index_masks(root: Path, new: Path, run_cli: Any, name: str) -> None:
    TREES[name][1](root)
    before = files_of(root)
    done = run_cli('data', 'convert', root, new, '--to', 'masks')
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[:2] == ['3 classes: background, cat, dog', 'train: 3 images with masks']
    assert 'val: 2 images with masks' in lines
    assert not [line for line in lines if 'work directory' in line]
    assert files_of(root) == before
    assert sorted(path.name for path in new.iterdir()) == ['CLASSES.txt', 'ann_dir', 'img_dir']
    assert classes_of(new) == ('background', 'cat', 'dog')
    assert same(new, MASKS)


def test_a_training_reads_the_written_tree_as_the_source(root: Path, new: Path, run_cli: Any) -> None:
    coco(root, harm=lambda content: content['annotations'][0].update(iscrowd=1, segmentation=rle(0, 0, 20, 24)))
    assert run_cli('data', 'convert', root, new, '--to', 'masks').code == 0
    seen = []
    for folder in (root, new):
        data = DataRequest(data_root=str(folder))
        run = TrainOptions('deeplabv3_emo_1m_demo', work_dir=str(folder.parent / f'run_{folder.name}'), data=data)
        cfg, _ = load_run_config(run, training=True)
        seen.append((tuple(cfg.train_dataloader.dataset.metainfo.classes), masks_read(cfg), masks_read(cfg, 'val')))
    assert seen[0][0] == seen[1][0]
    assert all(map(np.array_equal, seen[0][1] + seen[0][2], seen[1][1] + seen[1][2]))
    assert 255 in seen[1][1][0]


def mask_tree(root: Path, save: Callable[[np.ndarray, Path], None]) -> None:
    images(root, 'img_dir/{}')
    for split, of in MASKS.items():
        (root / 'ann_dir' / split).mkdir(parents=True)
        for name, mask in of.items():
            save(mask, root / 'ann_dir' / split / f'{name}.png')


def coloured(root: Path) -> None:
    mask_tree(root, lambda labels, path: Image.fromarray(COLOURS[labels]).save(path))
    (root / 'labelmap.txt').write_text('background:0,0,0::\ncat:220,30,30::\ndog:30,200,40::\n')


def black_and_white(root: Path) -> None:
    mask_tree(root, lambda labels, path: Image.fromarray((labels > 0).astype(np.uint8) * 255).save(path))
    (root / 'CLASSES.txt').write_text('animal\n')


def index_of_two(root: Path) -> None:
    """Two classes and ignored pixels, with a palette of black and white."""

    def save(labels: np.ndarray, path: Path) -> None:
        picture = Image.fromarray(np.array([0, 1, 255], np.uint8)[labels])
        picture.putpalette([0, 0, 0, 255, 255, 255] + [9] * 762)
        picture.save(path)

    mask_tree(root, save)
    (root / 'CLASSES.txt').write_text('background\nanimal\n')


KINDS: dict[str, tuple[Callable[[Path], None], tuple[str, ...], list[int]]] = {
    'colours': (coloured, ('background', 'cat', 'dog'), [0, 1, 2]),
    'black and white': (black_and_white, ('background', 'animal'), [0, 1, 1]),
    'two classes, ignored pixels': (index_of_two, ('background', 'animal'), [0, 1, 255]),
}


@pytest.mark.parametrize('name', KINDS)
def test_masks_of_any_kind_become_index_masks(root: Path, new: Path, run_cli: Any, name: str) -> None:
    tree, classes, labels = KINDS[name]
    tree(root)
    done = run_cli('data', 'convert', root, new, '--to', 'masks')
    assert done.code == 0, done.err
    assert classes_of(new) == classes
    table = np.array(labels, np.uint8)
    assert same(new, {split: {stem: table[mask] for stem, mask in of.items()} for split, of in MASKS.items()})


def test_flags_of_the_data_are_those_of_a_training(root: Path, new: Path, run_cli: Any) -> None:
    coloured(root)
    (root / 'labelmap.txt').rename(root / 'table.txt')
    refused = run_cli('data', 'convert', root, new, '--to', 'masks')
    assert (refused.code, '--palette FILE' in refused.err) == (1, True)
    done = run_cli('data', 'convert', root, new, '--to', 'masks', '--palette', 'table.txt', '--ignore', 'cat')
    assert done.code == 0, done.err
    assert classes_of(new) == ('background', 'dog')
    table = np.array([0, 255, 1], np.uint8)
    assert same(new, {split: {stem: table[mask] for stem, mask in of.items()} for split, of in MASKS.items()})


def test_a_data_set_without_splits_is_a_training_split_or_divided(root: Path, new: Path, run_cli: Any) -> None:
    label_studio(root)
    done = run_cli('data', 'convert', root, new, '--to', 'masks')
    assert done.out.splitlines()[0] == 'there are no splits, so all is written as train; --split 0.8/0.2 divides it'
    assert len(list((new / 'ann_dir' / 'train').iterdir())) == 8
    args = ('--to', 'yolo', '--split', '0.75/0.25', '--no-groups')
    divided = run_cli('data', 'convert', root, root.parent / 'yolo', *args)
    assert 'train: 6 images, 12 boxes' in divided.out.splitlines()
    assert 'val: 2 images, 4 boxes' in divided.out.splitlines()


def test_nothing_is_written_where_a_label_is_at_fault(root: Path, new: Path, run_cli: Any) -> None:
    coco(root, harm=lambda content: content['annotations'][1].update(segmentation=[]))
    faulty = run_cli('data', 'convert', root, new, '--to', 'masks')
    assert (faulty.code, '1 of 3 labels have a box but no outline' in faulty.err) == (1, True)
    assert not new.exists()
    mask_tree(root / 'masks', lambda labels, path: Image.fromarray(labels).save(path))
    (root / 'masks' / 'CLASSES.txt').write_text('a\nb\nc\n')
    Image.new('RGB', (WIDTH + 1, HEIGHT)).save(root / 'masks/img_dir/val/d.jpg')
    faulty = run_cli('data', 'convert', root / 'masks', new, '--to', 'masks')
    assert (faulty.code, f'is {WIDTH}x{HEIGHT} but its image is {WIDTH + 1}x{HEIGHT}' in faulty.err) == (1, True)
    assert not [path for path in root.parent.iterdir() if 'new' in path.name]


@pytest.mark.parametrize('names', [('# cat', 'dog, brown'), ('1 cat', '2 dog'), ('a:b', 'x,1,2,3'), ('cat', '猫')])
def test_class_names_are_read_as_they_were_written(root: Path, new: Path, run_cli: Any, names: tuple[str, str]) -> None:
    for split in ('train', 'val'):
        shapes = [labelme_polygon(name, 4 * n, 0, 4 * n + 4, 9) for n, name in enumerate(names)]
        labelme_file(root / split, 'a', shapes)
    done = run_cli('data', 'convert', root, new, '--to', 'masks')
    assert done.code == 0, done.err
    assert classes_of(new) == ('background', *names)


def test_class_names_that_no_list_can_hold_are_refused(root: Path, new: Path, run_cli: Any) -> None:
    for split in ('train', 'val'):
        labelme_file(root / split, 'a', [labelme_polygon('two\nlines', 0, 0, 9, 9)])
    done = run_cli('data', 'convert', root, new, '--to', 'masks')
    assert (done.code, r"a list of classes cannot hold the names 'background', 'two\nlines'" in done.err) == (1, True)


# --- outlines of YOLO
def test_outlines_and_boxes_stay_through_yolo(root: Path, new: Path, run_cli: Any) -> None:
    triangle = [1.37, 2.91, 11.25, 3.5, 6.125, 19.75]
    content = coco_content('train')
    content['annotations'][0].update(bbox=[1.37, 2.91, 9.88, 16.84], segmentation=[triangle])
    coco(root)
    (root / 'annotations/train.json').write_text(json.dumps(content))
    for source, target, to in ((root, 'yolo', 'yolo'), (root.parent / 'yolo', 'new', 'coco')):
        done = run_cli('data', 'convert', source, root.parent / target, '--to', to)
        assert done.out.splitlines() == ['train: 3 images, 3 boxes', 'val: 2 images, 3 boxes']
    assert (root.parent / 'yolo/labels/train/b.txt').read_text() == (
        '1 0.25000000 0.33333333 0.75000000 0.33333333 0.75000000 0.66666667 0.25000000 0.66666667\n'
    )
    back = json.loads((new / 'annotations/train.json').read_text())
    for before, after in zip(content['annotations'], back['annotations'], strict=True):
        assert after['bbox'] == pytest.approx(before['bbox'], abs=0.002)
        assert after['segmentation'][0] == pytest.approx(before['segmentation'][0], abs=0.002)


def test_parts_are_joined_for_yolo_and_what_it_cannot_hold_is_told(root: Path, new: Path, run_cli: Any) -> None:
    parts = [(2, 2, 8, 8), (12, 4, 20, 10)]

    def harm(content: dict) -> None:
        first, second, third = content['annotations']
        first.update(bbox=[2, 2, 18, 8], segmentation=[corners(*sides) for sides in parts])
        second.update(bbox=[20, 8, 12, 12], segmentation=[corners(20, 8, 40, 20)])
        third.update(bbox=[8, 8, 20, 12])
        content['annotations'].append({**third, 'id': 9, 'bbox': [8, 8, 16, 8], 'iscrowd': 1})

    coco(root, harm=harm)
    done = run_cli('data', 'convert', root, new, '--to', 'yolo')
    assert done.out.splitlines()[:6] == [
        'train: 3 images, 4 boxes',
        '  note: 1 outline cut at the border of the image',
        '  note: 1 crowd left out',
        '  note: 1 outline of several parts, joined by lines: YOLO has one polygon for each',
        '  note: 2 boxes not around the outline: YOLO has only the outline',
        'val: 2 images, 3 boxes',
    ]
    request = DataRequest(data_root=str(new))
    drawing = layout_of_folder(request, TASKS['seg']).resolve(request).splits['train'].drawings['a.jpg']
    assert np.array_equal(drawing.labels(), mask_of([(0, *parts[0]), (0, *parts[1]), (1, 20, 8, 32, 20)]))


@pytest.mark.parametrize(
    ('outline', 'why'),
    [([], '1 of 6 labels have no outline'), (rle(4, 4, 12, 20), '1 of 6 labels have a mask of pixels')],
)
def test_boxes_are_written_where_a_label_has_no_polygon(
    root: Path, new: Path, run_cli: Any, outline: Any, why: str
) -> None:
    coco(root, harm=lambda content: content['annotations'][0].update(segmentation=outline))
    lines = run_cli('data', 'convert', root, new, '--to', 'yolo').out.splitlines()
    assert f'  note: 3 outlines left out: the box of each is written, as {why}' in lines
    assert (new / 'labels/train/b.txt').read_text() == '1 0.50000000 0.50000000 0.50000000 0.33333333\n'


def test_rectangles_of_labelme_are_boxes_alone_and_outlines_beside_polygons(
    root: Path, new: Path, run_cli: Any
) -> None:
    labelme(root, lambda label, left, top, right, bottom: shape(label, 'rectangle', (left, top), (right, bottom)))
    run_cli('data', 'convert', root, new, '--to', 'yolo')
    assert len((new / 'labels/train/b.txt').read_text().split()) == 5
    labelme_file(root / 'val', 'c', [labelme_polygon('cat', 2, 2, 10, 10)])
    run_cli('data', 'convert', root, root.parent / 'newer', '--to', 'yolo')
    assert len((root.parent / 'newer/labels/train/b.txt').read_text().split()) == 9


def test_classes_have_one_number_whatever_the_order_of_each_file(root: Path, new: Path, run_cli: Any) -> None:
    turned = annotations(images=2)
    turned['categories'].reverse()
    del turned['annotations'][0]['iscrowd']  # which a training repairs too
    write_coco(root, val=turned)
    done = run_cli('data', 'convert', root, new, '--to', 'yolo')
    assert done.code == 0, done.err
    for split in ('train', 'val'):
        assert [(new / f'labels/{split}/{number}.txt').read_text()[0] for number in (0, 1)] == ['0', '1']
