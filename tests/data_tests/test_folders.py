"""Own classification data: a tree of class folders."""

from __future__ import annotations

from pathlib import Path

import pytest
from data_trees import shared, write_folders
from PIL import Image

from emo_mm.data.layouts.folders import FOLDERS
from emo_mm.data.splits import DataRequest
from emo_mm.errors import UserError


def test_images_are_counted_by_class(tmp_path: Path) -> None:
    found = FOLDERS.resolve(write_folders(tmp_path, splits=('train', 'valid', 'test')))
    assert found.classes == ('glass', 'paper')
    assert {split: part.folder for split, part in found.splits.items()} == {
        'train': 'train',
        'val': 'valid',
        'test': 'test',
    }
    assert found.lines()[0] == 'train: train: 3 images, 2 classes: glass 1, paper 2'


def test_an_unlabelled_test_folder_is_no_test_split(tmp_path: Path) -> None:
    request = write_folders(tmp_path)
    (tmp_path / 'test').mkdir()
    Image.new('RGB', (8, 8)).save(tmp_path / 'test' / '0.png')
    assert list(FOLDERS.resolve(request).splits) == ['train', 'val']


def test_splits_may_be_given(tmp_path: Path) -> None:
    write_folders(tmp_path, splits=('a', 'b'))
    found = FOLDERS.resolve(DataRequest(data_root=str(tmp_path), train_images='a', val_images='b'))
    assert {split: part.folder for split, part in found.splits.items()} == {'train': 'a', 'val': 'b'}


def test_files_of_unread_types_are_told(tmp_path: Path) -> None:
    request = write_folders(tmp_path)
    (tmp_path / 'train' / 'glass' / 'x.webp').touch()
    assert any('1 file left out' in line for line in FOLDERS.resolve(request).lines())


def test_no_validation_split_tells_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'val split .* --val-images DIR'):
        FOLDERS.resolve(write_folders(tmp_path, splits=('train',)))


def test_splits_must_have_the_same_classes(tmp_path: Path) -> None:
    request = write_folders(tmp_path)
    (tmp_path / 'val' / 'glass').rename(tmp_path / 'val' / 'Glass')
    with pytest.raises(UserError, match='missing are glass, new are Glass'):
        FOLDERS.resolve(request)


def test_an_empty_class_cannot_be_trained(tmp_path: Path) -> None:
    request = write_folders(tmp_path)
    (tmp_path / 'train' / 'glass' / '0.png').unlink()
    with pytest.raises(UserError, match='no image of glass'):
        FOLDERS.resolve(request)


def test_hidden_folders_are_ignored_with_a_note(tmp_path: Path) -> None:
    request = write_folders(tmp_path)
    (tmp_path / 'train' / '.ipynb_checkpoints').mkdir()
    found = FOLDERS.resolve(request)
    assert found.classes == ('glass', 'paper')
    assert any('ignored, as no classes and no images: .ipynb_checkpoints' in line for line in found.lines())


def test_images_without_class_folders_are_refused(tmp_path: Path) -> None:
    for split in ('train', 'val'):
        (tmp_path / split).mkdir()
        Image.new('RGB', (8, 8)).save(tmp_path / split / '0.png')
    with pytest.raises(UserError, match='holds no class folders'):
        FOLDERS.resolve(DataRequest(data_root=str(tmp_path)))


def test_annotation_files_are_not_for_classification(tmp_path: Path) -> None:
    request = write_folders(tmp_path)
    with pytest.raises(UserError, match=r'--train-ann x.txt: classification reads no annotation file'):
        FOLDERS.resolve(DataRequest(data_root=request.data_root, train_ann='x.txt'))


def test_trashnet_is_counted() -> None:
    found = FOLDERS.resolve(shared('trashnet'))
    assert {split: sum(part.part.images.values()) for split, part in found.splits.items()} == {
        'train': 1768,
        'val': 328,
        'test': 431,
    }
    assert found.classes == ('cardboard', 'glass', 'metal', 'paper', 'plastic', 'trash')
