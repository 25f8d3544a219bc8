"""Boxes in other formats than COCO's: each gives the same content, its faults are named, the user's files stay."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from box_trees import TOYS, TREES, cvat, draw, labelme, table, voc, voc_folders, write, yolo
from data_trees import annotations, write_coco
from planning import load_run_config

from emo_mm import doctor
from emo_mm.data.boxes import LabelFault
from emo_mm.data.layouts import LAYOUTS, layout_of_folder
from emo_mm.data.layouts.boxes.base import BoxLayout, BoxPlace, read_xml
from emo_mm.data.layouts.boxes.yolo import YOLO
from emo_mm.data.splits import DataRequest
from emo_mm.engine.options import RunOptions, TrainOptions
from emo_mm.errors import UserError
from emo_mm.tasks import TASKS

pytestmark = pytest.mark.toolbox
CONFIG = 'ssdlite_emo_1m_demo'


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('EMO_MM_CACHE', str(tmp_path / 'cache'))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / 'data'


def options(root: Path, **more: Any) -> TrainOptions:
    data = DataRequest(data_root=str(root), **{key: more.pop(key) for key in list(more) if hasattr(DataRequest, key)})
    return TrainOptions(CONFIG, work_dir=str(root.parent / 'run'), data=data, **more)


def files_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob('*')) if path.is_file()}


def boxes_in(path: str | Path) -> dict[str, list]:
    """The boxes of an annotation file by image: class, and left, top, right, bottom."""
    content = json.loads(Path(path).read_text())
    names = {entry['id']: entry['name'] for entry in content['categories']}
    found: dict[str, list] = {Path(entry['file_name']).stem: [] for entry in content['images']}
    of = {entry['id']: Path(entry['file_name']).stem for entry in content['images']}
    assert {(entry['width'], entry['height']) for entry in content['images']} == {(32, 32)}
    for entry in content['annotations']:
        x, y, width, height = entry['bbox']
        found[of[entry['image_id']]].append((names[entry['category_id']], x, y, x + width, y + height))
    return found


EXPECTED = {
    split: {name: [(('cat', 'dog')[n], *sides) for n, *sides in boxes] for name, boxes in of.items()}
    for split, of in TOYS.items()
}


@pytest.mark.parametrize('name', TREES)
def test_every_format_is_told_apart_and_gives_the_same_content(root: Path, name: str) -> None:
    key, tree = TREES[name]
    tree(root)
    before = files_of(root)
    layout = layout_of_folder(DataRequest(data_root=str(root)), TASKS['det'])
    assert layout is next(row.layout for row in LAYOUTS if row.key == key)
    cfg, lines = load_run_config(options(root), training=True)
    for split in TOYS:
        ann_file = cfg[f'{split}_dataloader'].dataset.ann_file
        assert ann_file == str(root.parent / 'run' / 'checked_data' / f'{split}.json')
        assert boxes_in(ann_file) == EXPECTED[split]
    assert cfg.val_evaluator.ann_file == cfg.val_dataloader.dataset.ann_file
    assert cfg.model.bbox_head.num_classes == 2
    assert '2 of 2 images found, 3 boxes, 2 classes: cat, dog' in lines[0]
    assert any(line.endswith('no fault') for line in lines)
    assert files_of(root) == before
    checks = doctor.check_data(root)
    assert [(check.name, check.ok) for check in checks] == [('train', True), ('val', True)], checks


def test_a_dry_run_counts_and_writes_nothing(root: Path) -> None:
    yolo(root)
    _, lines = load_run_config(options(root, dry_run=True), training=True)
    assert '2 of 2 images found, 3 boxes' in lines[0]
    assert not (root.parent / 'run').exists()


@pytest.mark.parametrize('name', ['classes.txt', 'labels.txt'])
def test_names_in_labels_come_in_the_order_of_a_list_if_it_has_them_all(root: Path, name: str) -> None:
    voc(root)
    (root / name).write_text('dog\ncat\nbird\n')
    cfg, lines = load_run_config(options(root), training=True)
    assert tuple(cfg.train_dataloader.dataset.metainfo.classes) == ('dog', 'cat', 'bird')
    assert any(f'3 classes from {name}' in line for line in lines)
    (root / name).write_text('dog\n')
    cfg, lines = load_run_config(options(root), training=True)
    assert tuple(cfg.train_dataloader.dataset.metainfo.classes) == ('cat', 'dog')
    assert any(f'{name} is not used: it lacks cat' in line for line in lines)


def test_a_test_alone_numbers_the_classes_as_the_training_did(root: Path) -> None:
    voc_folders(root)
    (root / 'val' / 'd.xml').unlink()  # the only one with a dog
    run = options(root)
    cfg, _ = load_run_config(RunOptions(CONFIG, work_dir=run.work_dir, data=run.data), training=False)
    assert tuple(cfg.test_dataloader.dataset.metainfo.classes) == ('cat', 'dog')


def test_a_folder_of_two_formats_is_read_by_the_one_that_is_picked(root: Path) -> None:
    yolo(root)
    write_coco(root)
    with pytest.raises(UserError, match=r'may be any of COCO annotation files .*--layout coco or yolo'):
        load_run_config(options(root), training=True)
    _, lines = load_run_config(options(root, layout='yolo'), training=True)
    assert lines[0].startswith('train: images/train: 2 of')
    with pytest.raises(UserError, match=r'--layout jolo: .*there are coco, yolo, voc, cvat, labelme, csv'):
        load_run_config(options(root, layout='jolo'), training=True)
    assert 'pick one with --layout coco or yolo' in doctor.check_data(root)[0].detail
    train, val = doctor.check_data(root, layout='yolo')
    assert train.ok
    assert val.ok
    assert '--layout jolo: there is no such layout' in doctor.check_data(root, layout='jolo')[0].detail


def flat_yolo(root: Path) -> None:
    yolo(root, 'images', 'labels', 'names: [cat, dog]\n')


def roboflow_folders(root: Path) -> None:
    yolo(root, '{}/images', '{}/labels', 'names: [cat, dog]\ntrain: ../train/images\n')


def flat_voc(root: Path) -> None:
    voc_folders(root, 'JPEGImages', 'Annotations')


def one_table(root: Path) -> None:
    table(root)
    (root / 'boxes.csv').write_text(''.join((root / f'{split}.csv').read_text() for split in TOYS))
    for split in TOYS:
        (root / f'{split}.csv').unlink()


def only_train(root: Path) -> None:
    """Move what is in folders of val into those of train."""
    folders = [path for path in root.rglob('val') if path.is_dir()]
    for folder in folders:
        for path in [path for path in folder.rglob('*') if path.is_file()]:
            path.rename(folder.parent / 'train' / path.relative_to(folder))
        shutil.rmtree(folder)


@pytest.mark.parametrize('tree', [flat_yolo, flat_voc, one_table, yolo, labelme, voc_folders, roboflow_folders])
def test_a_folder_without_a_validation_split_is_divided(root: Path, tree: Callable[[Path], None]) -> None:
    tree(root)
    only_train(root)
    before = files_of(root)
    run = options(root, split='0.5/0.5', no_groups=True)
    cfg, lines = load_run_config(run, training=True)
    assert lines[0].startswith('--split 0.5/0.5: 4 images divided into')
    names = {split: names_of(cfg[f'{split}_dataloader'].dataset.ann_file) for split in TOYS}
    assert not names['train'] & names['val']
    assert names['train'] | names['val'] == {'a.jpg', 'b.jpg', 'c.jpg', 'd.jpg'}
    assert cfg.val_evaluator.ann_file == cfg.val_dataloader.dataset.ann_file
    alone, _ = load_run_config(RunOptions(CONFIG, work_dir=run.work_dir, data=run.data), training=False)
    assert names_of(alone.test_dataloader.dataset.ann_file) == names['val']
    assert tuple(alone.test_dataloader.dataset.metainfo.classes) == ('cat', 'dog')
    assert files_of(root) == before


def names_of(ann_file: str) -> set[str]:
    content = json.loads(Path(ann_file).read_text())
    return {Path(image['file_name']).name for image in content['images']}


def test_the_named_parts_of_a_split_tell_the_format(root: Path) -> None:
    yolo(root, 'photos_{}', 'marks_{}', 'names: [cat, dog]\n')
    parts = {
        f'{split}_{kind}': f'{folder}_{split}'
        for split in TOYS
        for kind, folder in (('ann', 'marks'), ('images', 'photos'))
    }
    cfg, _ = load_run_config(options(root, **parts), training=True)
    assert boxes_in(cfg.train_dataloader.dataset.ann_file) == EXPECTED['train']


# --- what counts in a split
def test_images_without_a_label_file_have_no_box_and_labels_without_an_image_are_told(root: Path) -> None:
    yolo(root)
    draw(root / 'images/train/empty.jpg')
    draw(root / 'images/train/none.jpg')
    write(root / 'labels/train/empty.txt', '')
    write(root / 'labels/train/gone.txt', '0 0.5 0.5 0.5 0.5\n')
    cfg, lines = load_run_config(options(root), training=True)
    assert boxes_in(cfg.train_dataloader.dataset.ann_file) == EXPECTED['train'] | {'empty': [], 'none': []}
    assert '  note: 1 image without a label file, taken as images without a box: none.jpg' in lines
    assert '  note: 1 label file without an image: gone.txt' in lines


def test_polygons_count_as_their_boxes_and_stay_as_outlines(root: Path) -> None:
    yolo(root)
    write(root / 'labels/train/a.txt', '1 0.25 0.25 0.5 0.25 0.5 0.75\n')
    cfg, _ = load_run_config(options(root), training=True)
    assert boxes_in(cfg.train_dataloader.dataset.ann_file)['a'] == [('dog', 8, 8, 16, 24)]
    content = json.loads(Path(cfg.train_dataloader.dataset.ann_file).read_text())
    assert content['annotations'][0]['segmentation'] == [[8, 8, 16, 8, 16, 24]]


def test_difficult_objects_of_voc_are_not_trained_on(root: Path) -> None:
    voc(root)
    path = root / 'VOCdevkit/VOC2007/Annotations/b.xml'
    path.write_text(path.read_text().replace('<difficult>0', '<difficult>1'))
    _, lines = load_run_config(options(root), training=True)
    assert '2 of 2 images found, 2 boxes' in lines[0]
    assert any('1 box marked iscrowd' in line for line in lines)


def test_lines_of_a_table_without_coordinates_are_images_without_a_box(root: Path) -> None:
    table(root)
    draw(root / 'images/empty.jpg')
    with (root / 'train.csv').open('a') as file:
        file.write('images/empty.jpg,,,,,\n')
    cfg, _ = load_run_config(options(root), training=True)
    assert boxes_in(cfg.train_dataloader.dataset.ann_file)['empty'] == []


def test_the_file_of_class_names_chooses_and_orders_them(root: Path) -> None:
    voc_folders(root)
    write(root / 'names.txt', 'dog\ncat\n')
    cfg, _ = load_run_config(options(root, classes='names.txt'), training=True)
    assert tuple(cfg.train_dataloader.dataset.metainfo.classes) == ('dog', 'cat')
    assert boxes_in(cfg.train_dataloader.dataset.ann_file) == EXPECTED['train']
    write(root / 'names.txt', 'dog\n')
    _, lines = load_run_config(options(root, classes='names.txt'), training=True)
    assert '  note: not trained: cat (1 box)' in lines
    write(root / 'names.txt', 'dog\nfox\n')
    with pytest.raises(UserError, match='has no class fox as asked for by --classes; it has cat, dog'):
        load_run_config(options(root, classes='names.txt'), training=True)


def test_labels_without_names_ask_for_them(root: Path) -> None:
    yolo(root)
    (root / 'data.yaml').unlink()
    with pytest.raises(UserError, match='the class names are not known; give a text file with --classes FILE'):
        load_run_config(options(root), training=True)
    write(root / 'classes.txt', 'cat\ndog\n')
    cfg, _ = load_run_config(options(root), training=True)
    assert boxes_in(cfg.train_dataloader.dataset.ann_file) == EXPECTED['train']


def test_lists_of_images_lead_to_them_and_their_labels(root: Path) -> None:
    """As CVAT's export has them, whose lists were written for another folder."""
    yolo(root, 'obj_{}_data', 'obj_{}_data')
    (root / 'data.yaml').unlink()
    write(root / 'obj.names', 'cat\ndog\n')
    for split, of in TOYS.items():
        write(root / f'{split}.txt', ''.join(f'data/obj_{split}_data/{name}.jpg\n' for name in of))
    found = YOLO.resolve(DataRequest(data_root=str(root)))
    assert found.classes == ('cat', 'dog')
    assert [(split.present, split.boxes) for split in found.splits.values()] == [(2, 3), (2, 3)]


# --- faults
Harm = Callable[[Path], object]


def line_of_a(line: str) -> Harm:
    def harm(root: Path) -> None:
        with (root / 'labels/train/a.txt').open('a') as file:
            file.write(f'{line}\n')

    return harm


def replaced(path: str, old: str, new: str) -> Harm:
    return lambda root: (root / path).write_text((root / path).read_text().replace(old, new, 1))


# format, harm, what is said of it, images that stay without it
FAULTS: dict[str, tuple[Callable[[Path], None], Harm, str, int]] = {
    'class without a name': (yolo, line_of_a('7 .5 .5 .5 .5'), r'labels/train/a\.txt:3: category 7', 2),
    'pixels': (yolo, line_of_a('0 12 12 8 8'), r'labels/train/a\.txt:3: 12 12 8 8 are not between 0 and 1', 2),
    'no area': (yolo, line_of_a('0 .5 .5 0 .5'), r'labels/train/a\.txt:3: bbox', 2),
    'image empty': (yolo, lambda root: (root / 'images/train/a.jpg').write_bytes(b''), r'empty file .*a\.jpg', 1),
    'image of a table gone': (table, lambda root: (root / 'images/a.jpg').unlink(), r'missing file .*a\.jpg', 1),
    'no number in a table': (table, replaced('train.csv', ',16,8,', ',x,8,'), r"train\.csv:2: 'x,8,24,24,dog'", 2),
    'object without a box': (voc_folders, replaced('train/a.xml', '<xmin>4', '<xmin>x'), r'object 1: has no bndbox', 2),
    'image of XML gone': (voc_folders, lambda root: (root / 'train/a.jpg').unlink(), r'missing file .*a\.jpg', 1),
    'another size': (voc_folders, replaced('train/a.xml', '<width>32', '<width>40'), '32x32, in train.json 40x32', 1),
    'shape without points': (labelme, replaced('train/a.json', '[[12, 4]', '[[12]'), r'train/a\.json: shape 1', 2),
}  # fmt: skip


@pytest.mark.parametrize('name', FAULTS)
def test_faults_are_named_with_their_place_and_can_be_left_out(root: Path, name: str) -> None:
    tree, harm, told, images = FAULTS[name]
    tree(root)
    harm(root)
    with pytest.raises(UserError, match=told):
        load_run_config(options(root), training=True)
    cfg, _ = load_run_config(options(root, bad_data='skip'), training=True)
    left = boxes_in(cfg.train_dataloader.dataset.ann_file)
    assert len(left) == images
    assert left['b'] == EXPECTED['train']['b']
    train, val = doctor.check_data(root)
    assert (train.ok, val.ok) == (False, True), (train, val)


@pytest.mark.parametrize(
    ('line', 'told'),
    [
        ('-1 .5 .5 .5 .5', 'class number -1'),
        ('0.5 .5 .5 .5 .5', 'class number 0.5'),
        ('0 .5 .5 .5', '4 numbers; expected are a class number and 4 numbers, or the points of a polygon'),
        ('0 .5 .5 .5 .5 .9', '6 numbers; expected are a class number and 4 numbers, or the points of a polygon'),
        ('0 .5 .5 nan .5', '.5 .5 nan .5 are not between 0 and 1, as fractions of the image are'),
        ('cat .5 .5 .5 .5', "'cat .5 .5 .5 .5' is not made of numbers"),
    ],
)
def test_lines_of_yolo_that_are_no_boxes_are_told_with_their_number(root: Path, line: str, told: str) -> None:
    yolo(root)
    line_of_a(line)(root)
    image, _ = YOLO.read_boxes(BoxPlace(root, 'train', (root / 'images/train',))).images
    assert len(image.boxes) == 2
    assert image.faults == (LabelFault('labels/train/a.txt:3', told),)


def rewritten(path: str, text: str) -> Harm:
    return lambda root: (root / path).write_text(text)


ENTITY = '<!DOCTYPE x [<!ENTITY a "b">]><annotation>&a;</annotation>'


@pytest.mark.parametrize(
    ('tree', 'harm', 'told'),
    [
        (voc_folders, rewritten('train/a.xml', '<annotation>\n<a'), r'a\.xml: cannot be read as XML .*line 2'),
        (voc_folders, rewritten('train/a.xml', ENTITY), r'a\.xml: declares XML entities'),
        (labelme, rewritten('train/b.json', '{"im'), r'b\.json: is not valid JSON'),
        (yolo, rewritten('data.yaml', 'names: [cat\ntrain: x'), r'data\.yaml: is not valid YAML'),
        (yolo, replaced('data.yaml', 'nc: 2', 'nc: 3'), r'data\.yaml: nc is 3, but it has 2 names'),
        (yolo, replaced('data.yaml', 'val: images/val', 'val: x/val'), r'data\.yaml gives val: x/val'),
        (yolo, lambda root: shutil.rmtree(root / 'labels/train'), 'none of its 2 images has a label'),
    ],
)
def test_what_cannot_be_read_at_all_is_one_line(root: Path, tree: Callable, harm: Harm, told: str) -> None:
    tree(root)
    harm(root)
    with pytest.raises(UserError, match=told):
        load_run_config(options(root, bad_data='skip'), training=True)
    assert not all(check.ok for check in doctor.check_data(root))


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-16', 'utf-16-le', 'utf-16-be'])
def test_xml_with_entities_is_refused_in_every_encoding(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / 'a.xml'
    path.write_text(ENTITY, encoding=encoding)
    with pytest.raises(UserError, match=r'a\.xml: declares XML entities'):
        read_xml(path)


@pytest.mark.parametrize('layout', [row.layout for row in LAYOUTS if isinstance(row.layout, BoxLayout)])
def test_an_absent_split_is_told_with_its_usual_places(root: Path, layout: BoxLayout) -> None:
    places = str(layout.absent(root, 'val')).split('usual is')[1]
    assert re.search(r'\bval\b', places)
    assert not re.search(r'[{}]|val[a-z]|[A-Za-z]val', places)


@pytest.mark.parametrize(('tree', 'checked'), [(yolo, True), (voc, True)])
def test_a_run_without_the_check_stops_at_what_mmdet_would_mix_up(root: Path, tree: Callable, checked: bool) -> None:
    tree(root)
    if tree is yolo:
        line_of_a('7 .5 .5 .5 .5')(root)
    else:
        (root / 'VOCdevkit/VOC2007/JPEGImages/a.jpg').unlink()
    with pytest.raises(UserError, match=r'category 7|1 of 2 images are missing .*a\.jpg'):
        load_run_config(options(root, check=None), training=True)


def test_a_detector_is_trained_from_yolo_labels(root: Path, run_cli: Any) -> None:
    yolo(root)
    small = ['--batch-size', '2', '--workers', '0', '--epochs', '1']
    done = run_cli('train', CONFIG, '--data-root', str(root), '--work-dir', str(root.parent / 'run'), *small)
    assert done.code == 0, done.err
    assert 'bbox_mAP' in (root.parent / 'run' / 'metrics.json').read_text()


# --- conversion
@pytest.mark.parametrize('to', ['coco', 'yolo', 'voc'])
@pytest.mark.parametrize('source', [yolo, voc, labelme, cvat])
def test_a_data_set_is_converted_without_loss(root: Path, run_cli: Any, source: Callable, to: str) -> None:
    source(root)
    before = files_of(root)
    done = run_cli('data', 'convert', root, root.parent / 'new', '--to', to)
    assert (done.code, done.out.splitlines()) == (0, ['train: 2 images, 3 boxes', 'val: 2 images, 3 boxes'])
    assert files_of(root) == before
    request = DataRequest(data_root=str(root.parent / 'new'))
    layout = layout_of_folder(request, TASKS['det'])
    assert layout is next(row.layout for row in LAYOUTS if row.key == to)
    found = layout.resolve(request)
    assert found.classes == ('cat', 'dog')
    assert [(split.images, split.boxes) for split in found.splits.values()] == [(2, 3), (2, 3)]
    if to != 'coco':
        _, files = layout.settle(found, root.parent)
        for file, split in zip(files, EXPECTED, strict=True):
            write(file.path, file.text)
            assert boxes_in(file.path) == EXPECTED[split]


def test_a_conversion_tells_what_a_format_cannot_hold_and_refuses_faults(root: Path, run_cli: Any) -> None:
    content = annotations()
    content['annotations'][0].update(iscrowd=1)
    content['annotations'][1].update(bbox=[-2, 4, 10, 8], segmentation=[[0, 4, 8, 4, 8, 12]])
    write_coco(root, train=content)
    done = run_cli('data', 'convert', root, root.parent / 'new', '--to', 'yolo')
    assert done.out.splitlines() == [
        'train: 3 images, 3 boxes',
        '  note: 1 box cut at the border of the image',
        '  note: 1 crowd left out',
        '  note: 1 outline left out: the box of each is written, as 3 of 4 labels have no outline',
        'val: 2 images, 2 boxes',
    ]
    again = run_cli('data', 'convert', root, root.parent / 'new', '--to', 'voc')
    assert (again.code, 'new: is not empty; give the name of a new folder' in again.err) == (1, True)
    (root / 'images' / '0.jpg').unlink()
    faulty = run_cli('data', 'convert', root, root.parent / 'newer', '--to', 'voc')
    assert (faulty.code, 'are missing from' in faulty.err) == (1, True)
    assert not (root.parent / 'newer').exists()
