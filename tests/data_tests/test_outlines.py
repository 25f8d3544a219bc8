"""Outlines of any format are drawn into the masks that a segmentation is trained on; the user's files stay."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from box_trees import draw, voc, write
from box_trees import yolo as boxes_of_yolo
from data_trees import masks_read, write_pairs
from outline_trees import (
    HEIGHT,
    MASKS,
    TOYS,
    TREES,
    WIDTH,
    coco,
    coco_content,
    corners,
    cvat,
    cvat_image,
    cvat_polygon,
    files_of,
    label_studio,
    labelme,
    labelme_file,
    labelme_polygon,
    labelme_rectangle,
    mask_of,
    pixels,
    rle,
    shape,
    yolo,
)
from planning import load_run_config

from emo_mm import doctor
from emo_mm.data import outlines
from emo_mm.data.layouts import LAYOUTS, layout_of_folder
from emo_mm.data.layouts.base import Found
from emo_mm.data.layouts.masks.convert import MaskError
from emo_mm.data.layouts.outlines import OutlineSplit
from emo_mm.data.splits import DataRequest
from emo_mm.engine.options import RunOptions, TrainOptions
from emo_mm.errors import UserError
from emo_mm.tasks import TASKS

pytestmark = pytest.mark.toolbox
CONFIG = 'deeplabv3_emo_1m_demo'
SEG = TASKS['seg']


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('EMO_MM_CACHE', str(tmp_path / 'cache'))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / 'data'


def options(root: Path, **more: Any) -> TrainOptions:
    data = DataRequest(data_root=str(root), **{key: more.pop(key) for key in list(more) if hasattr(DataRequest, key)})
    return TrainOptions(CONFIG, work_dir=str(root.parent / 'run'), data=data, **more)


def found_in(root: Path, tolerant: bool = False, **request: Any) -> Found[OutlineSplit]:
    wanted = DataRequest(data_root=str(root), **request)
    return layout_of_folder(wanted, SEG).resolve(wanted, tolerant=tolerant)


def drawn(found: Found[OutlineSplit], split: str = 'train') -> dict[str, np.ndarray]:
    return {Path(name).stem: drawing.labels() for name, drawing in found.splits[split].drawings.items()}


def notes(found: Found[OutlineSplit], split: str = 'train') -> str:
    return '; '.join(found.splits[split].notes)


@pytest.mark.parametrize('name', TREES)
def test_every_format_is_told_apart_and_gives_the_same_masks(root: Path, name: str) -> None:
    key, tree = TREES[name]
    tree(root)
    before = files_of(root)
    assert layout_of_folder(DataRequest(data_root=str(root)), SEG) is next(r.layout for r in LAYOUTS if r.key == key)
    found = found_in(root)
    assert found.classes == ('background', 'cat', 'dog')
    for split, masks in MASKS.items():
        drawings = drawn(found, split)
        assert drawings.keys() == masks.keys()
        assert all(np.array_equal(drawings[name], mask) for name, mask in masks.items())
    assert 'of 3 images found, 3 outlines, drawn to checked_data/masks_train' in found.lines()[1]
    assert '1 image without an outline, taken as background: ' in notes(found)
    checks = doctor.check_data(root, layout=key)
    assert [check.ok for check in checks] == [True, True], checks
    assert files_of(root) == before


def test_a_run_reads_the_drawn_masks(root: Path) -> None:
    coco(root)
    cfg, lines = load_run_config(options(root), training=True)
    assert [np.array_equal(*pair) for pair in zip(masks_read(cfg), MASKS['train'].values(), strict=True)] == [True] * 3
    assert cfg.model.decode_head.num_classes == 3
    assert cfg.train_dataloader.dataset.data_prefix.seg_map_path == str(root.parent / 'run/checked_data/masks_train')
    assert lines[0] == (
        '3 classes from the COCO annotation files (background is added as the first class): background, cat, dog'
    )
    assert any(line.endswith('no fault') for line in lines)
    run = options(root)
    alone, _ = load_run_config(RunOptions(CONFIG, work_dir=run.work_dir, data=run.data), training=False)
    assert tuple(alone.test_dataloader.dataset.metainfo.classes) == ('background', 'cat', 'dog')
    assert np.array_equal(masks_read(alone, 'test')[0], MASKS['val']['c'])


def test_a_dry_run_counts_and_draws_nothing(root: Path) -> None:
    labelme(root)
    _, lines = load_run_config(options(root, dry_run=True), training=True)
    assert any('3 of 3 images found, 3 outlines' in line for line in lines)
    assert not (root.parent / 'run').exists()


def test_one_file_without_splits_is_divided(root: Path) -> None:
    label_studio(root)
    with pytest.raises(UserError, match=r'no COCO annotation file of the train split .*--split 0.8/0.2'):
        load_run_config(options(root), training=True)
    cfg, lines = load_run_config(options(root, split='0.75/0.25', no_groups=True), training=True)
    assert lines[0].startswith('--split 0.75/0.25: 8 images divided into train 6, val 2')
    assert any(line.startswith('train: result.json: 6 of 6 images found, 12 outlines') for line in lines)
    masks = [masks_read(cfg, split) for split in ('train', 'val')]
    assert [len(of) for of in masks] == [6, 2]
    assert all(np.array_equal(mask, MASKS['train']['a']) for of in masks for mask in of)


def test_masks_come_before_outlines_unless_these_are_picked(root: Path) -> None:
    coco(root)
    for split in TOYS:
        write_pairs(root / 'img_dir' / split, root / 'ann_dir' / split)
    (root / 'CLASSES.txt').write_text('sky\nroad\ncar\n')
    assert found_in(root).classes == ('sky', 'road', 'car')
    assert found_in(root, layout='coco_outlines').classes == ('background', 'cat', 'dog')
    yolo(root)
    shutil.rmtree(root / 'ann_dir')
    with pytest.raises(UserError, match='pick one with --layout coco_outlines or yolo_outlines'):
        found_in(root)


# --- what lies above what
SQUARES = ((0, 2, 2, 30, 22), (1, 8, 8, 16, 16))  # the second inside the first


def test_later_shapes_of_labelme_lie_above_earlier_ones(root: Path) -> None:
    labelme(root)
    for order, top in (((0, 1), 2), ((1, 0), 1)):
        shapes = [labelme_polygon(('cat', 'dog')[SQUARES[n][0]], *SQUARES[n][1:]) for n in order]
        labelme_file(root / 'train', 'a', shapes)
        assert drawn(found_in(root))['a'][12, 12] == top


def test_shapes_of_cvat_lie_in_their_z_order(root: Path) -> None:
    cvat(root)
    small, large = (cvat_polygon(('cat', 'dog')[n], *sides, z=-n) for n, *sides in reversed(SQUARES))
    text = (root / 'annotations.xml').read_text()
    write(root / 'annotations.xml', text.replace('</image>', f'{large}{small}</image>', 1))
    assert drawn(found_in(root))['a'][12, 12] == 1  # the small one comes last and lies below


def test_smaller_outlines_of_coco_lie_above_larger_ones(root: Path) -> None:
    def harm(content: dict) -> None:
        base = content['annotations'][0]
        rows = [
            {**base, 'id': 9 - n, 'category_id': n + 1, 'segmentation': [corners(*r)]} for n, *r in reversed(SQUARES)
        ]
        content['annotations'] = rows

    coco(root, harm=harm)
    assert np.array_equal(drawn(found_in(root))['a'], mask_of(list(SQUARES)))


# --- shapes
def test_rectangles_and_circles_of_labelme_are_outlines(root: Path) -> None:
    labelme(root)
    circle = shape('dog', 'circle', (16, 12), (16, 22))
    labelme_file(root / 'train', 'b', [labelme_rectangle('cat', 0, 0, 4, 4), circle, shape('dog', 'point', (1, 1))])
    found = found_in(root)
    mask = drawn(found)['b']
    assert (mask[:4, :4] == 1).all()
    assert abs((mask == 2).sum() - math.pi * 100) < 6
    assert '1 shape left out: point is neither a box nor an area' in notes(found)
    assert '1 rectangle taken as outline' in notes(found)


def test_ellipses_of_cvat_are_turned_and_boxes_have_no_outline(root: Path) -> None:
    cvat(root)
    text = (root / 'annotations.xml').read_text()
    turned = '<ellipse label="dog" cx="16" cy="12" rx="10" ry="4" rotation="90"/>'
    write(root / 'annotations.xml', text.replace('</image>', f'{turned}</image>', 1))
    mask = drawn(found_in(root))['a']
    rows, _ = np.nonzero(mask[:, 12:20] == 2)
    assert (rows.min(), rows.max()) == (2, 21)
    box = '<box label="dog" xtl="1" ytl="1" xbr="5" ybr="5"/>'
    write(root / 'annotations.xml', text.replace('</image>', f'{box}</image>', 1))
    with pytest.raises(UserError, match=r'1 of 4 labels have a box but no outline: annotations.xml: a.jpg: shape 3'):
        found_in(root)


# --- classes
def test_a_class_that_is_the_background_stays_the_first_and_is_not_doubled(root: Path) -> None:
    labelme(root)
    shapes = [labelme_polygon('cat', 2, 2, 30, 22), labelme_polygon('_background_', 8, 8, 16, 16)]
    labelme_file(root / 'train', 'b', [*shapes, labelme_polygon('__ignore__', 20, 8, 24, 16)])
    found = found_in(root)
    assert found.classes == ('_background_', 'cat', 'dog')
    mask = drawn(found)['b']
    assert (mask[12, 12], mask[12, 22], mask[3, 3], mask[0, 0]) == (0, 255, 1, 0)


def test_the_file_of_class_names_chooses_and_may_begin_with_the_background(root: Path) -> None:
    labelme(root)
    write(root / 'labels.txt', '__ignore__\n_background_\ndog\ncat\n')
    assert found_in(root, classes='labels.txt').classes == ('background', 'dog', 'cat')
    write(root / 'labels.txt', 'background\ndog\n')
    found = found_in(root, classes='labels.txt')
    assert found.classes == ('background', 'dog')
    assert 'not trained, taken as background: cat (1 outline)' in notes(found)
    assert np.array_equal(drawn(found)['a'], pixels(16, 8, 24, 20))
    write(root / 'labels.txt', 'background\nfox\n')
    with pytest.raises(UserError, match='has no class fox as asked for by --classes'):
        found_in(root, classes='labels.txt')


def test_ignored_classes_are_255_and_the_others_move_down(root: Path) -> None:
    coco(root)
    found = found_in(root, ignore=('cat',))
    assert found.classes == ('background', 'dog')
    assert 'label 1 (cat) is ignored' in notes(found)
    assert np.array_equal(drawn(found)['a'], np.array([0, 255, 1])[MASKS['train']['a']])
    without = found_in(root, reduce_zero=True)
    assert without.classes == ('cat', 'dog')
    assert np.array_equal(drawn(without)['a'], np.array([255, 0, 1])[MASKS['train']['a']])
    with pytest.raises(UserError, match=r'1 class left of background, cat, dog: too few'):
        found_in(root, ignore=('cat', 'dog'))
    with pytest.raises(UserError, match=r'--binary: is for masks, but here are COCO annotation files'):
        found_in(root, binary=True)


def test_crowds_are_ignored_below_the_objects(root: Path) -> None:
    def harm(content: dict) -> None:
        content['annotations'][0].update(iscrowd=1, segmentation=rle(0, 0, 20, 24))

    coco(root, harm=harm)
    found = found_in(root)
    expected = np.where(pixels(0, 0, 20, 24) > 0, 255, 0)
    expected[8:20, 16:24] = 2
    assert np.array_equal(drawn(found)['a'], expected)
    assert '1 crowd ignored (label 255)' in notes(found)
    assert found.splits['train'].outlines == 2


def test_outlines_that_are_all_crowds_are_objects_as_cvat_marks_masks_so(root: Path) -> None:
    coco(root, rle)
    for path in (root / 'annotations').iterdir():
        path.write_text(path.read_text().replace('"iscrowd": 0', '"iscrowd": 1'))
    found = found_in(root)
    assert np.array_equal(drawn(found)['a'], MASKS['train']['a'])
    assert 'every outline is marked iscrowd, as masks of CVAT are: they are read as objects' in notes(found)


# --- boxes without outlines
def test_boxes_without_an_outline_are_faults_whose_images_can_be_left_out(root: Path) -> None:
    coco(root, harm=lambda content: content['annotations'][1].update(segmentation=[]))
    with pytest.raises(UserError, match=r'train +box without an outline +1 .*a\.jpg \(annotation 2 has segmentation'):
        load_run_config(options(root), training=True)
    with pytest.raises(
        UserError,
        match=r'train\.json: 1 of 3 labels have a box but no outline: annotation 2 .*; draw their outlines, or leave '
        'these images out with --bad-data skip',
    ):
        load_run_config(options(root, check=None), training=True)
    cfg, lines = load_run_config(options(root, bad_data='skip'), training=True)
    assert '  note: 1 of 3 have a box but no outline' in lines
    assert any(line.startswith('train: 1 image left out') for line in lines)
    assert [mask.tolist() for mask in masks_read(cfg)] == [MASKS['train'][name].tolist() for name in 'be']
    train, val = doctor.check_data(root, layout='coco_outlines')
    assert (train.ok, val.ok, '--bad-data skip' in train.fix) == (False, True, True)


@pytest.mark.parametrize('tree', [boxes_of_yolo, lambda root: coco(root, lambda *sides: [])], ids=['yolo', 'coco'])
def test_boxes_alone_are_refused(root: Path, tree: Callable[[Path], None]) -> None:
    tree(root)
    for checked in ('quick', None):
        with pytest.raises(UserError, match=r'none of its labels has an outline, 3 boxes only; segmentation needs'):
            load_run_config(options(root, check=checked), training=True)


def test_formats_without_outlines_are_told_to_be_for_detection(root: Path) -> None:
    voc(root)
    with pytest.raises(UserError, match='It holds Pascal VOC annotations, which are for detection'):
        found_in(root)


# --- what cannot be drawn
def first(**values: Any) -> Callable[[dict], object]:
    return lambda content: content['annotations'][0].update(values)


SHORT, LARGE = {'size': [HEIGHT, WIDTH], 'counts': [5, 10]}, {'size': [9, 9], 'counts': [81]}
FAULTS: dict[str, tuple[Callable[[dict], object], str, str]] = {
    'runs too short': (first(segmentation=SHORT), 'outline that does not fit', 'annotation 1 has an RLE whose runs do'),
    'of another size': (first(segmentation=LARGE), 'outline that does not fit', r'an RLE of height and width \[9, 9\]'),
    'no runs': (first(segmentation={**SHORT, 'counts': 'zz'}), 'outline that does not fit', 'annotation 1 has an RLE'),
    'outside': (first(segmentation=[corners(50, 50, 60, 60)]), 'outline beyond the borders', r'from \[50, 50\]'),
    'a long way': (first(segmentation=[[0, 0, 9000, 20] * 2000]), 'outline too long to draw', 'of 4000 corners'),
    'two points': (first(segmentation=[[1, 1, 2, 2]]), 'outline of less than three points', 'annotation 1 has'),
    'text': (first(segmentation=[['a'] * 8]), 'box without an outline', 'annotation 1 has'),
    'category': (first(category_id=9), 'undeclared category', 'annotation 1: category 9'),
    'size': (lambda content: content['images'][0].update(width=32.5), 'size that cannot be drawn', '32.5 x 24'),
    'huge': (lambda content: content['images'][0].update(width=10**9), 'size that cannot be drawn', '1000000000 x 24'),
    'id': (lambda content: content['images'][1].update(id=1), 'id used twice', 'image 1'),
    'another size': (lambda content: content['images'][0].update(width=40), 'mask of another size', '40x24, its image'),
}  # fmt: skip


@pytest.mark.parametrize('name', FAULTS)
def test_what_cannot_be_drawn_is_a_fault_with_its_image(root: Path, name: str) -> None:
    harm, kind, detail = FAULTS[name]
    coco(root, harm=harm)
    with pytest.raises(UserError, match=rf'train +{kind} +\d .*a\.jpg \(.*{detail}'):
        load_run_config(options(root), training=True)
    train, val = doctor.check_data(root, layout='coco_outlines')
    assert (train.ok, val.ok) == (False, True), (train, val)


def test_a_label_that_cannot_be_read_is_a_fault(root: Path) -> None:
    yolo(root)
    with (root / 'labels/train/a.txt').open('a') as file:
        file.write('0 0.5 0.5 0.5\n')
    found = found_in(root, tolerant=True)
    with pytest.raises(MaskError, match=r'label that cannot be read: labels/train/a\.txt:3: 4 numbers'):
        drawn(found)


def test_bboxes_do_not_matter_where_there_are_outlines(root: Path) -> None:
    def harm(content: dict) -> None:
        content['annotations'][0].update(bbox=[], area=0)
        del content['annotations'][1]['bbox']

    coco(root, harm=harm)
    found = found_in(root)
    assert np.array_equal(drawn(found)['a'], MASKS['train']['a'])
    assert '2 annotations without a bbox, taken as the one around its polygons' in notes(found)


# --- images
def test_images_may_lie_anywhere(root: Path) -> None:
    coco(root)
    (root / 'annotations').rename(root.parent / 'labels')
    (root / 'images').rename(root.parent / 'photos')
    wanted = {f'{split}_ann': str(root.parent / f'labels/{split}.json') for split in TOYS}
    wanted |= {f'{split}_images': str(root.parent / 'photos') for split in TOYS}
    cfg, _ = load_run_config(options(root, **wanted), training=True)
    assert np.array_equal(masks_read(cfg)[0], MASKS['train']['a'])


def test_an_image_that_is_listed_twice_gets_the_outlines_of_both(root: Path) -> None:
    coco(root, harm=lambda content: content['images'][1].update(file_name='a.jpg'))
    mask = drawn(found_in(root))['a']
    assert np.array_equal(mask > 0, (MASKS['train']['a'] > 0) | (MASKS['train']['b'] > 0))


def test_a_test_split_without_labels_is_left_out_and_cannot_be_tested_on(root: Path) -> None:
    coco(root)
    content = coco_content('val')
    del content['annotations']
    write(root / 'annotations/test.json', json.dumps(content))
    found = found_in(root)
    assert 'test' not in found.splits
    assert 'test: left out, as it has no labels' in found.lines()
    request = DataRequest(data_root=str(root))
    with pytest.raises(UserError, match='the test split has no labels, so no prediction can be scored'):
        layout_of_folder(request, SEG).resolve(request, training=False)


def test_masks_are_drawn_again_only_where_outlines_changed(root: Path) -> None:
    labelme(root)
    load_run_config(options(root), training=True)
    masks = root.parent / 'run/checked_data/masks_train'
    before = {path.name: path.stat().st_mtime_ns for path in masks.glob('*.png')}
    labelme_file(root / 'train', 'b', [labelme_polygon('cat', 0, 0, 9, 9)])
    cfg, _ = load_run_config(options(root), training=True)
    changed = {path.name for path in masks.glob('*.png') if path.stat().st_mtime_ns != before[path.name]}
    assert changed == {'b.jpg.png'}
    assert np.array_equal(masks_read(cfg)[1], pixels(0, 0, 9, 9))


def test_a_segmenter_is_trained_from_labelme_files(root: Path, run_cli: Any) -> None:
    labelme(root)
    small = ['--batch-size', '2', '--workers', '0', '--iters', '2', '--class-weights', 'auto']
    done = run_cli('train', CONFIG, '--data-root', str(root), '--work-dir', str(root.parent / 'run'), *small)
    assert done.code == 0, done.err
    assert 'mIoU' in (root.parent / 'run' / 'metrics.json').read_text()


# --- drawing
def test_polygons_have_the_area_that_their_corners_enclose() -> None:
    """Where Pillow and OpenCV give 3 to 35 % more."""
    random = np.random.default_rng(0)
    for radius, tolerance in ((5, 0.02), (20, 0.005)):
        shares = []
        for _ in range(100):
            angles = np.sort(random.uniform(0, 2 * np.pi, 9))
            x, y = 40 + radius * np.cos(angles), 30 + radius * np.sin(angles)
            area = abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
            points = np.stack([x, y], axis=1).ravel().tolist()
            shares.append(outlines.area_of(outlines.encoded([points], 80, 60)) / area)
        assert abs(np.mean(shares) - 1) < tolerance


def test_polygons_are_cut_at_the_borders_and_far_corners_cost_nothing() -> None:
    assert outlines.clipped(corners(-5, -5, 50, 10), 32, 24) == [0, 0, 32, 0, 32, 10, 0, 10]
    triangle = outlines.clipped([-10, 12, 16, -14, 16, 38], 32, 24)
    pairs = {(round(x, 6), round(y, 6)) for x, y in zip(triangle[0::2], triangle[1::2], strict=True)}
    assert pairs == {(2, 0), (16, 0), (16, 24), (2, 24), (0, 22), (0, 2)}
    assert outlines.clipped(corners(40, 0, 50, 10), 32, 24) == []
    far = outlines.encoded([corners(-(10**12), -(10**12), 10**12, 12)], 32, 24)
    assert outlines.area_of(far) == 32 * 12
    assert outlines.area_of(outlines.encoded([corners(-1e308, -1e308, 1e308, 12)], 32, 24)) == 32 * 12
    assert outlines.encoded([corners(40, 0, 50, 10)], 32, 24) is None


def test_parts_joined_to_one_polygon_cover_the_same_pixels() -> None:
    parts = [corners(2, 2, 8, 8), corners(12, 4, 20, 10), corners(4, 14, 9, 22)]
    whole, one = outlines.encoded(parts, 32, 24), outlines.encoded([outlines.joined(parts)], 32, 24)
    assert np.array_equal(outlines.decoded(whole), outlines.decoded(one))


def test_runs_of_a_part_are_those_of_the_image() -> None:
    part = np.eye(5, 8) > 0
    whole = np.zeros((HEIGHT, WIDTH), bool)
    whole[3:8, 6:14] = part
    found = outlines.rle_of(part, 6, 3, WIDTH, HEIGHT)
    assert outlines.fault_of_rle(found, WIDTH, HEIGHT) == ''
    assert np.array_equal(outlines.decoded(outlines.encoded(found, WIDTH, HEIGHT)), whole)
    cut = outlines.decoded(outlines.encoded(outlines.rle_of(part, -2, 21, WIDTH, HEIGHT), WIDTH, HEIGHT))
    assert np.array_equal(cut[21:, :6], part[:3, 2:])


@pytest.mark.parametrize('harm', ['no base64', 'cmFuZG9t', None])
def test_a_mask_of_labelme_that_is_no_picture_is_a_fault(root: Path, harm: str | None) -> None:
    labelme(root)
    labelme_file(root / 'train', 'b', [shape('cat', 'mask', (1, 1), (3, 3), mask=harm)])
    with pytest.raises(UserError, match=r'cannot be read: train/b\.json: shape 1: a mask that is no picture'):
        found_in(root)


@pytest.mark.parametrize(
    ('attributes', 'told'),
    [
        ('rle="1, 2" left="0" top="0" width="2" height="2"', 'a mask whose runs do not make up 2x2 pixels'),
        ('rle="4" left="31" top="0" width="2" height="2"', 'a mask of 2x2 pixels that is not inside its image'),
        ('rle="4" left="0" top="0" width="2"', 'a mask whose coordinates are not numbers'),
        ('rle="x" left="0" top="0" width="2" height="2"', 'a mask whose coordinates are not numbers'),
    ],
)
def test_a_mask_of_cvat_that_does_not_fit_is_a_fault(root: Path, attributes: str, told: str) -> None:
    draw(root / 'images/a.jpg', (WIDTH, HEIGHT))
    entry = cvat_image('a', f'{cvat_polygon("cat", 0, 0, 9, 9)}<mask label="cat" {attributes}/>')
    for split in TOYS:
        write(root / f'{split}.xml', f'<annotations>{entry}</annotations>')
    with pytest.raises(UserError, match=rf'cannot be read: train\.xml: a\.jpg: shape 2: {told}'):
        found_in(root)
