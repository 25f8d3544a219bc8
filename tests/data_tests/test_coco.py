"""Own detection data: what is recognised, counted and refused, and the config that results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from data_trees import CLASSES, annotations, shared, write_coco, write_split

from emo_mm.data.layouts.coco import COCO
from emo_mm.data.layouts.coco.file import read_annotations
from emo_mm.data.layouts.coco.names import missing_images
from emo_mm.data.splits import DataRequest
from emo_mm.errors import UserError


@pytest.mark.parametrize(
    ('ann_file', 'image_dir'),
    [
        ('annotations/instances_{}2017.json', '{}2017'),
        ('annotations/{}.json', 'images'),
        ('annotations/instances_{}.json', 'images/{}'),
        ('{}/_annotations.coco.json', '{}'),
        ('annotations/cells_{}.json', '{}/images'),
        ('{}.json', '.'),
    ],
)
def test_known_layouts_are_found(tmp_path: Path, ann_file: str, image_dir: str) -> None:
    for split in ('train', 'val'):
        write_split(tmp_path / ann_file.format(split), tmp_path / image_dir.format(split), annotations())
    found = COCO.resolve(DataRequest(data_root=str(tmp_path)))
    assert list(found.splits) == ['train', 'val']
    assert found.classes == CLASSES
    for split, part in found.splits.items():
        assert part.ann_file == ann_file.format(split)
        assert part.image_dir.strip('/') == image_dir.format(split).strip('.')
        assert (part.images, part.boxes) == (3, 3)


def test_roboflow_group_without_boxes_is_no_class(tmp_path: Path) -> None:
    content = annotations()
    content['categories'] = [{'id': 0, 'name': 'pets', 'supercategory': 'none'}] + [
        {**category, 'supercategory': 'pets'} for category in content['categories']
    ]
    for folder in ('train', 'valid', 'test'):
        write_split(tmp_path / folder / '_annotations.coco.json', tmp_path / folder, content)
    found = COCO.resolve(DataRequest(data_root=str(tmp_path)))
    assert list(found.splits) == ['train', 'val', 'test']
    assert found.classes == CLASSES
    assert 'not trained: pets' in '\n'.join(found.lines())


def test_explicit_files_and_folders_may_be_relative_to_the_root_or_absolute(tmp_path: Path) -> None:
    root = tmp_path / 'data'
    write_split(root / 'a.json', tmp_path / 'elsewhere', annotations())
    write_split(root / 'b.json', root / 'pictures', annotations(images=2))
    request = DataRequest(
        data_root=str(root),
        train_ann='a.json',
        val_ann=str(root / 'b.json'),
        train_images=str(tmp_path / 'elsewhere'),
        val_images='pictures',
    )
    found = COCO.resolve(request)
    assert found.splits['train'].image_dir == f'{tmp_path / "elsewhere"}/'
    assert (found.splits['val'].ann_file, found.splits['val'].image_dir) == ('b.json', 'pictures/')


def test_file_names_with_folders_are_matched(tmp_path: Path) -> None:
    found = COCO.resolve(write_coco(tmp_path, annotations(prefix='train/'), annotations(prefix='val/')))
    assert found.splits['train'].image_dir == 'images/'


def test_testing_needs_no_training_split(tmp_path: Path) -> None:
    write_split(tmp_path / 'annotations' / 'test.json', tmp_path / 'images', annotations())
    assert list(COCO.resolve(DataRequest(data_root=str(tmp_path)), training=False).splits) == ['test']
    with pytest.raises(UserError, match='train split'):
        COCO.resolve(DataRequest(data_root=str(tmp_path)))


def test_counts_are_told_with_the_classes(tmp_path: Path) -> None:
    lines = COCO.resolve(write_coco(tmp_path)).lines()
    assert lines[0] == 'train: annotations/train.json: 3 of 3 images found, 3 boxes, 2 classes: cat, dog'


def test_boxes_that_mmdet_leaves_out_are_not_counted(tmp_path: Path) -> None:
    content = annotations(images=5)
    for box, change in zip(
        content['annotations'],
        [{'bbox': [4, 4, 0.5, 8]}, {'bbox': [40, 4, 5, 5]}, {'bbox': [4, 4, 8, 0]}, {'ignore': True}, {}],
        strict=True,
    ):
        box.update(change)
    found = COCO.resolve(write_coco(tmp_path, content))
    assert found.splits['train'].boxes == 1
    assert any(note.startswith('4 boxes left out') for note in found.splits['train'].notes)


def test_classes_file_chooses_some_in_the_order_of_the_file(tmp_path: Path) -> None:
    content = annotations(('cat', 'dog', 'cow'), images=6)
    write_coco(tmp_path, content, content)
    (tmp_path / 'names.txt').write_text('cow\ncat\n')
    found = COCO.resolve(DataRequest(data_root=str(tmp_path), classes='names.txt'))
    assert found.classes == ('cat', 'cow')
    assert found.splits['train'].boxes == 4


def test_no_validation_annotations_tells_the_option(tmp_path: Path) -> None:
    write_split(tmp_path / 'annotations' / 'train.json', tmp_path / 'images', annotations())
    with pytest.raises(UserError, match='--val-ann FILE'):
        COCO.resolve(DataRequest(data_root=str(tmp_path)))
    both = DataRequest(data_root=str(tmp_path), val_ann='annotations/train.json')
    assert COCO.resolve(both).splits['val'].images == 3


def test_several_candidates_are_not_guessed_from(tmp_path: Path) -> None:
    write_split(tmp_path / 'a_train.json', tmp_path, annotations())
    write_split(tmp_path / 'b_train.json', tmp_path, annotations())
    with pytest.raises(UserError, match=r'a_train.json, b_train.json; pick with --train-ann'):
        COCO.resolve(DataRequest(data_root=str(tmp_path)))


def broken(**changes: Any) -> dict[str, Any]:
    return {**annotations(), **changes}


FAULTS = {
    'no images key': ({'annotations': [], 'categories': []}, "no list 'images'"),
    'no images': (broken(images=[]), 'lists no images'),
    'no categories': (broken(categories=[]), 'lists no categories'),
    'no boxes': (broken(annotations=[]), 'no usable box'),
    'boxes of other images only': (
        broken(annotations=[{**box, 'image_id': 99} for box in annotations()['annotations']]),
        '3 of images that it does not list',
    ),
    'undeclared category': (
        broken(annotations=[{**box, 'category_id': 77} for box in annotations()['annotations']]),
        '3 boxes have a category id .* 77',
    ),
    'two categories of one name': (
        broken(categories=[{'id': 10, 'name': 'cat'}, {'id': 11, 'name': 'cat'}]),
        'category name .* cat is used more than once',
    ),
    'a box of three numbers': (
        broken(annotations=[{**annotations()['annotations'][0], 'bbox': [1, 2, 3]}]),
        r'annotation 1 has bbox \[1, 2, 3\]',
    ),
    'an image without a size': (broken(images=[{'id': 1, 'file_name': '0.jpg'}]), "lack 'width' .* 'height'"),
}


@pytest.mark.parametrize('fault', FAULTS)
def test_faulty_annotations_are_refused(tmp_path: Path, fault: str) -> None:
    content, message = FAULTS[fault]
    request = write_coco(tmp_path)
    path = tmp_path / 'annotations' / 'train.json'
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=message) as raised:
        COCO.resolve(request)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize(
    ('text', 'message'),
    [('', 'not valid JSON'), ('{"images": [', 'cut off'), ('[]', 'holds a list'), ('{}', "no list 'images'")],
)
def test_files_that_are_no_annotations_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / 'train.json'
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_annotations(path)


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / 'train.json'
    path.write_text(json.dumps(annotations(images=3)))
    assert len(read_annotations(path).images) == 3
    path.write_text(json.dumps(annotations(images=12)))
    assert len(read_annotations(path).images) == 12


def test_no_matching_image_is_refused(tmp_path: Path) -> None:
    request = write_coco(tmp_path)
    for image in (tmp_path / 'images').iterdir():
        image.rename(tmp_path / 'images' / f'x{image.name}')
    with pytest.raises(UserError, match=r'train.json: matches no image: 0.jpg .* --train-images DIR'):
        COCO.resolve(request)
    with pytest.raises(UserError, match='none of its 3 images'):
        COCO.resolve(DataRequest(data_root=str(tmp_path), train_images='images', val_images='images'))


def test_a_missing_image_is_refused_by_name(tmp_path: Path) -> None:
    request = write_coco(tmp_path)
    (tmp_path / 'images' / '2.jpg').unlink()
    with pytest.raises(UserError, match=r'1 of 3 images are missing .* 2.jpg'):
        COCO.resolve(request)


def test_missing_images_counts_each_folder(tmp_path: Path) -> None:
    (tmp_path / 'a').mkdir()
    (tmp_path / 'a' / '1.jpg').touch()
    assert missing_images(tmp_path, ['a/1.jpg', 'a/2.jpg', 'b/1.jpg', '1.jpg', '/a/1.jpg']) == [
        'a/2.jpg',
        'b/1.jpg',
        '1.jpg',
        '/a/1.jpg',
    ]


def test_a_class_that_only_the_validation_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='missing are dog, new are cow'):
        COCO.resolve(write_coco(tmp_path, val=annotations(('cat', 'cow'))))


def test_a_root_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'--data-root .*nowhere'):
        COCO.resolve(DataRequest(data_root=str(tmp_path / 'nowhere')))


def test_bccd_is_counted() -> None:
    found = COCO.resolve(shared('bccd'))
    assert {name: (part.images, part.boxes) for name, part in found.splits.items()} == {
        'train': (205, 2804),
        'val': (87, 1137),
        'test': (72, 945),
    }
    assert found.classes == ('RBC', 'WBC', 'Platelets')
