"""Annotation files as people have them: what is plain is repaired in a copy that the run reads, the file stays."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from data_trees import annotations, build, write_coco
from PIL import Image
from planning import load_run_config

from emo_mm.data.examine import examine
from emo_mm.data.layouts.coco import COCO
from emo_mm.data.layouts.coco.file import read_annotations
from emo_mm.data.layouts.coco.names import meant_images
from emo_mm.data.layouts.coco.repair import repair
from emo_mm.data.splits import DataRequest
from emo_mm.engine.options import RunOptions, TrainOptions
from emo_mm.errors import UserError

CONFIG = 'ssdlite_emo_1m_demo'
Harm = Callable[[dict[str, Any]], object]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv('EMO_MM_CACHE', str(tmp_path / 'cache'))


def boxes(**changes: Any) -> Harm:
    return lambda content: [box.update(changes) for box in content['annotations']]


def without(key: str) -> Harm:
    return lambda content: [box.pop(key) for box in content['annotations']]


def text_ids(content: dict[str, Any], form: str = '{}') -> None:
    for what in ('images', 'categories'):
        for entry in content[what]:
            entry['id'] = form.format(entry['id'])
    for box in content['annotations']:
        box.update(image_id=form.format(box['image_id']), category_id=form.format(box['category_id']))


def group_named_as_a_class(content: dict[str, Any]) -> None:
    content['categories'][0]['supercategory'] = 'cat'
    content['categories'].insert(0, {'id': 0, 'name': 'cat', 'supercategory': 'none'})


REPAIRS: dict[str, tuple[Harm, str]] = {
    'no area': (without('area'), '3 annotations without an area'),
    'area null': (boxes(area=None), '3 annotations without an area'),
    'area zero': (boxes(area=0), '3 annotations without an area'),
    'no iscrowd': (without('iscrowd'), '3 annotations without iscrowd'),
    'iscrowd null': (boxes(iscrowd=None), '3 annotations without iscrowd'),
    'iscrowd as text': (boxes(iscrowd='0'), 'numbers written as texts'),
    'boxes as texts': (boxes(bbox=['4', '4.0', '10', '8']), 'numbers written as texts'),
    'annotation ids per image': (boxes(id=1), 'annotation ids'),
    'no annotation ids': (without('id'), 'annotation ids'),
    'annotations twice': (lambda c: c.update(annotations=c['annotations'] * 2), '3 annotations listed twice'),
    'ids as texts': (text_ids, 'ids of images and categories written as texts'),
    'ids that are no numbers': (lambda c: text_ids(c, 'a-{}'), 'ids of images and categories written as texts'),
    'group named as a class': (group_named_as_a_class, 'two categories named cat'),
}


@pytest.mark.parametrize('case', REPAIRS)
def test_what_is_plain_is_repaired_in_a_copy_and_told(tmp_path: Path, case: str) -> None:
    harm, note = REPAIRS[case]
    content = annotations()
    harm(content)
    request = write_coco(tmp_path / 'data', content)
    source = tmp_path / 'data' / 'annotations' / 'train.json'
    before = source.read_bytes()
    run = TrainOptions(CONFIG, work_dir=str(tmp_path / 'run'), data=request)
    cfg, lines = load_run_config(run, training=True)
    assert source.read_bytes() == before
    assert any(line.startswith('  note: ') and note in line for line in lines)
    assert any(line.startswith('train: read from a repaired copy') and str(source) in line for line in lines)
    dataset = cfg.train_dataloader.dataset
    assert Path(dataset.ann_file) == (tmp_path / 'run/checked_data/0_train/train.json').absolute()
    assert read_annotations(Path(dataset.ann_file)).repairs == ()
    assert cfg.val_dataloader.dataset.ann_file == 'annotations/val.json'  # needs nothing, so it is read as it is
    loaded = build(cfg, 'train')
    assert [[one['bbox_label'] for one in loaded.get_data_info(i)['instances']] for i in range(len(loaded))] == [
        [0],
        [1],
        [0],
    ]
    train = examine(tmp_path / 'data')[0]
    assert train.ok
    assert note in train.detail


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16'])
def test_other_encodings_are_read(tmp_path: Path, encoding: str) -> None:
    request = write_coco(tmp_path / 'data')
    path = tmp_path / 'data' / 'annotations' / 'train.json'
    path.write_text(path.read_text(), encoding=encoding)
    run = TrainOptions(CONFIG, work_dir=str(tmp_path / 'run'), data=request)
    cfg, lines = load_run_config(run, training=True)
    assert any('note: the file is written as' in line for line in lines)
    assert json.loads(Path(cfg.train_dataloader.dataset.ann_file).read_text(encoding='utf-8'))['images']


def test_a_dry_run_tells_of_the_copy_and_writes_nothing(tmp_path: Path) -> None:
    content = annotations()
    boxes(iscrowd=None)(content)
    request = write_coco(tmp_path / 'data', content)
    run = TrainOptions(CONFIG, work_dir=str(tmp_path / 'run'), data=request, dry_run=True)
    _, lines = load_run_config(run, training=True)
    assert any('read from a repaired copy' in line for line in lines)
    assert not (tmp_path / 'run').exists()


def test_a_file_that_needs_nothing_is_the_very_same_object() -> None:
    content = annotations()
    assert repair(content).content is content
    assert repair(content).notes == ()


def test_a_repair_leaves_what_it_was_given_as_it_is() -> None:
    content = annotations()
    text_ids(content)
    boxes(area=None, iscrowd=None, id=1)(content)
    before = json.dumps(content)
    assert len(repair(content).notes) == 4
    assert json.dumps(content) == before


def test_faulty_boxes_of_a_repaired_file_can_be_left_out(tmp_path: Path) -> None:
    content = annotations()
    content['annotations'].insert(0, dict(content['annotations'][0]))
    boxes(area=None)(content)
    content['annotations'][-1]['category_id'] = 99
    request = write_coco(tmp_path / 'data', content)
    run = TrainOptions(CONFIG, work_dir=str(tmp_path / 'run'), data=request, bad_data='skip')
    cfg, _ = load_run_config(run, training=True)
    left = json.loads(Path(cfg.train_dataloader.dataset.ann_file).read_text())
    assert [(box['image_id'], box['area']) for box in left['annotations']] == [(1, 80), (2, 80)]


# --- file names
@pytest.mark.parametrize(
    ('written', 'file'),
    [
        ('images\\{}.jpg', '{}.jpg'),
        ('..\\..\\media\\upload\\{}.jpg', 'sub/{}.jpg'),
        ('/{}.jpg', '{}.jpg'),
        ('/home/me/data/train/{}.jpg', 'train/{}.jpg'),
        ('C:\\Users\\me\\{}.jpg', '{}.jpg'),
        ('a%20{}.jpg', 'a {}.jpg'),
        ('{}.JPG', '{}.jpg'),
        ('A{}.jpeg', 'a{}.JPEG'),
        ('/data/local-files/?d=train/{}.jpg', '{}.jpg'),
        ('caf\u00e9{}.jpg', 'cafe\u0301{}.jpg'),
    ],
)
def test_a_file_name_of_another_machine_is_read_as_the_file_that_is_there(
    tmp_path: Path, written: str, file: str
) -> None:
    content = annotations()
    for index, image in enumerate(content['images']):
        path = tmp_path / 'data' / 'images' / file.format(index)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (32, 24)).save(path)
        image['file_name'] = written.format(index)
    (tmp_path / 'data' / 'annotations').mkdir()
    for split in ('train', 'val'):
        (tmp_path / 'data' / 'annotations' / f'{split}.json').write_text(json.dumps(content))
    run = TrainOptions(CONFIG, work_dir=str(tmp_path / 'run'), data=DataRequest(data_root=str(tmp_path / 'data')))
    cfg, lines = load_run_config(run, training=True)
    assert sum('note: 3 file names read as the files that are there' in line for line in lines) == 2
    loaded = build(cfg, 'train')
    assert all(Path(loaded.get_data_info(index)['img_path']).is_file() for index in range(3))
    assert cfg.val_evaluator.ann_file == cfg.val_dataloader.dataset.ann_file
    assert all(finding.ok for finding in examine(tmp_path / 'data'))


def test_a_name_that_may_be_several_files_is_not_guessed(tmp_path: Path) -> None:
    for folder in ('a', 'b'):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / '1.jpg').touch()
    (tmp_path / '2.jpg').touch()
    assert meant_images(tmp_path, ['x/1.jpg', 'x/2.jpg', 'y/2.jpg']) == {}
    assert meant_images(tmp_path, ['x/b/1.jpg', '2.jpg', 'y/2.jpg']) == {'x/b/1.jpg': 'b/1.jpg'}


# --- classes
@pytest.mark.parametrize(
    ('names', 'note'),
    [(('dog', 'cat'), 'lists its categories in another order'), (('dog',), 'does not list cat')],
)
def test_categories_of_other_splits_are_matched_by_name(tmp_path: Path, names: tuple[str, ...], note: str) -> None:
    request = write_coco(tmp_path / 'data', val=annotations(names, images=2))
    run = TrainOptions(CONFIG, work_dir=str(tmp_path / 'run'), data=request)
    cfg, lines = load_run_config(run, training=True)
    assert any(note in line for line in lines)
    read = json.loads(Path(cfg.val_dataloader.dataset.ann_file).read_text())
    assert [category['name'] for category in read['categories']] == ['cat', 'dog']
    loaded = build(cfg, 'val')
    assert [loaded.get_data_info(i)['instances'][0]['bbox_label'] for i in range(2)] == (
        [1, 0] if names[1:] else [1, 1]
    )


def test_a_test_numbers_the_classes_as_the_training_file_does(tmp_path: Path) -> None:
    request = write_coco(tmp_path / 'data', val=annotations(('dog', 'cat'), images=2))
    cfg, _ = load_run_config(RunOptions(CONFIG, work_dir=str(tmp_path / 'run'), data=request), training=False)
    assert tuple(cfg.test_dataloader.dataset.metainfo.classes) == ('cat', 'dog')
    assert 'checked_data' in cfg.test_evaluator.ann_file


def test_a_category_without_boxes_that_only_the_validation_has_does_not_matter(tmp_path: Path) -> None:
    val = annotations(images=2)
    val['categories'].append({'id': 99, 'name': 'cow'})
    found = COCO.resolve(write_coco(tmp_path, val=val))
    assert found.classes == ('cat', 'dog')
    assert any('not trained: cow' in note for note in found.splits['val'].notes)


# --- boxes of another kind
def test_boxes_that_are_corners_are_refused(tmp_path: Path) -> None:
    content = annotations(images=6)
    for index, box in enumerate(content['annotations']):
        box['bbox'] = [14, 4 + index, 24, 12 + index]
    with pytest.raises(UserError, match=r'look like corners \[x1, y1, x2, y2\].*write \[x1, y1, x2 - x1, y2 - y1\]'):
        COCO.resolve(write_coco(tmp_path, content))


def test_boxes_that_are_fractions_are_refused(tmp_path: Path) -> None:
    content = annotations()
    boxes(bbox=[0.1, 0.2, 0.5, 0.4])(content)
    with pytest.raises(UserError, match=r'look like fractions of the image.*multiply them'):
        COCO.resolve(write_coco(tmp_path, content))


def test_a_few_boxes_beyond_the_border_are_no_corners(tmp_path: Path) -> None:
    content = annotations(images=6)
    content['annotations'][0]['bbox'] = [14, 4, 24, 12]
    assert COCO.resolve(write_coco(tmp_path, content)).splits['train'].boxes == 6


def test_a_photograph_annotated_as_it_lies_tells_the_way_out(tmp_path: Path) -> None:
    request = write_coco(tmp_path / 'data')
    image = Image.new('RGB', (32, 24))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / 'data' / 'images' / '0.jpg', exif=exif)
    with pytest.raises(UserError, match=r'image that EXIF turns, annotated as it lies .*exiftool -Orientation='):
        load_run_config(TrainOptions(CONFIG, work_dir=str(tmp_path / 'run'), data=request), training=True)


# --- images without boxes
def test_images_without_boxes_are_kept_where_that_is_asked_for(tmp_path: Path) -> None:
    content = annotations(images=5)
    content['annotations'] = content['annotations'][:3]
    request = write_coco(tmp_path / 'data', content)
    run = TrainOptions(CONFIG, work_dir=str(tmp_path / 'run'), data=request)
    cfg, lines = load_run_config(run, training=True)
    assert any('2 of 5 images left out' in line and '--keep-empty keeps them' in line for line in lines)
    assert len(build(cfg, 'train')) == 3
    run.keep_empty = True
    cfg, lines = load_run_config(run, training=True)
    assert not any('left out' in line for line in lines)
    assert len(build(cfg, 'train')) == 5


def test_keeping_images_without_boxes_is_refused_where_nothing_leaves_them_out(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='--keep-empty'):
        load_run_config(TrainOptions('emo_1m_demo', work_dir=str(tmp_path / 'run'), keep_empty=True), training=True)


# --- masks
MASKS = 'mask-rcnn_emov2_1m_coco'
POLYGON = [[4, 4, 14, 4, 14, 12]]


def masks_of(*masks: Any) -> dict[str, Any]:
    """One box with a mask per image; what is given as '' has none."""
    content = annotations(images=len(masks))
    content['images'] = [{**image, 'width': 64, 'height': 48} for image in content['images']]
    for box, mask in zip(content['annotations'], masks, strict=True):
        box.update({} if mask == '' else {'segmentation': mask})
    return content


def write_large(root: Path, train: dict[str, Any]) -> DataRequest:
    request = write_coco(root, train, masks_of(POLYGON, POLYGON))
    for path in (root / 'images').iterdir():
        Image.new('RGB', (64, 48)).save(path)
    return request


def test_objects_without_a_mask_are_left_out_and_told_where_the_config_trains_on_masks(tmp_path: Path) -> None:
    rle = {'counts': [100, 20, 2952], 'size': [48, 64]}
    content = masks_of(POLYGON, rle, POLYGON[0], '', None, [], [[1, 2, 3, 4]])
    request = write_large(tmp_path / 'data', content)
    load_run_config(TrainOptions(CONFIG, work_dir=str(tmp_path / 'run'), data=request), training=True)  # boxes only
    run = TrainOptions(MASKS, work_dir=str(tmp_path / 'run'), data=request, weights='none')
    cfg, lines = load_run_config(run, training=True)
    assert lines[0].startswith('train: annotations/train.json: 7 of 7 images found, 3 objects')
    assert any('1 annotation with the polygon as a flat list' in line for line in lines)
    assert any('4 of 7 objects left out, as they have no outline; they count as background' in line for line in lines)
    assert any('train: 4 of 7 images left out: no object of the classes' in line for line in lines)
    left = json.loads(Path(cfg.train_dataloader.dataset.ann_file).read_text())
    assert [box['segmentation'] for box in left['annotations']] == [POLYGON, rle, POLYGON]
    loaded = build(cfg, 'train')
    assert len(loaded) == 3
    assert all(instance['mask'] for index in range(3) for instance in loaded.get_data_info(index)['instances'])


def test_data_with_boxes_only_are_refused_where_the_config_trains_on_masks(tmp_path: Path) -> None:
    request = write_large(tmp_path / 'data', masks_of([], []))
    run = TrainOptions(MASKS, work_dir=str(tmp_path / 'run'), data=request, weights='none', bad_data='skip')
    with pytest.raises(UserError, match=r'boxes only: none of 2 objects has an outline; .*ssdlite_emo_1m_demo trains'):
        load_run_config(run, training=True)
