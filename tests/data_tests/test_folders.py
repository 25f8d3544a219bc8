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
    assert any('ignored, as hidden or no folder of images: .ipynb_checkpoints' in line for line in found.lines())


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


def listed(tmp_path: Path, request: DataRequest, splits: tuple[str, ...] = ('train', 'val')) -> dict[str, list[str]]:
    """The lists that mmpretrain is given, lines by split."""
    found = FOLDERS.resolve(request, derived=tmp_path)
    texts = FOLDERS.texts(found)
    return {split: texts.get(tmp_path / f'list_{split}.txt', '').splitlines() for split in splits}


def test_a_plain_tree_needs_no_list(tmp_path: Path) -> None:
    assert listed(tmp_path, write_folders(tmp_path)) == {'train': [], 'val': []}


def test_folders_and_files_of_systems_are_ignored(tmp_path: Path) -> None:
    request = write_folders(tmp_path)
    for path in ('__MACOSX/glass/._0.png', 'glass/.ipynb_checkpoints/0-checkpoint.png', 'glass/._0.png'):
        (tmp_path / 'train' / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (8, 8)).save(tmp_path / 'train' / path)
    (tmp_path / 'val' / 'glass' / 'Thumbs.db').touch()
    assert listed(tmp_path, request) == {'train': ['glass/0.png 0', 'paper/0.png 1', 'paper/1.png 1'], 'val': []}
    notes = [line for line in FOLDERS.resolve(request).lines() if 'ignored' in line]
    assert notes[0].endswith('__MACOSX, glass/._0.png, glass/.ipynb_checkpoints')
    assert notes[1].endswith('glass/Thumbs.db')


def test_images_of_other_types_that_can_be_read_are_trained_on(tmp_path: Path) -> None:
    request = write_folders(tmp_path)
    Image.new('RGB', (8, 8)).save(tmp_path / 'train' / 'glass' / 'x.webp')
    assert listed(tmp_path, request)['train'][:2] == ['glass/0.png 0', 'glass/x.webp 0']


def test_many_files_left_out_are_a_warning(tmp_path: Path) -> None:
    request = write_folders(tmp_path)
    (tmp_path / 'train' / 'glass' / 'x.heic').write_bytes(b'heic')
    assert any('WARNING, 25% of the images: 1 file left out' in line for line in FOLDERS.resolve(request).lines())


def test_a_class_without_images_for_validation_keeps_the_numbers_of_train(tmp_path: Path) -> None:
    request = write_folders(tmp_path)
    (tmp_path / 'val' / 'glass' / '0.png').unlink()
    (tmp_path / 'val' / 'glass').rmdir()
    assert listed(tmp_path, request)['val'] == ['paper/0.png 1', 'paper/1.png 1']
    assert any('no image of glass' in line for line in FOLDERS.resolve(request).lines())
    assert FOLDERS.resolve(request, training=False).classes == ('glass', 'paper')


def test_one_class_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'train: has one class only, cat, .* add a folder'):
        FOLDERS.resolve(write_folders(tmp_path, classes=('cat',)))


# --- tables
def write_table(root: Path, lines: str, images: str = 'images', name: str = 'train.csv') -> None:
    (root / images).mkdir(parents=True, exist_ok=True)
    for index in range(4):
        Image.new('RGB', (8, 8)).save(root / images / f'{index}.jpg')
    (root / name).write_text(lines)


@pytest.mark.parametrize(
    'lines',
    [
        'path,label\n0.jpg,dog\n1.jpg,cat\n',
        'id;breed\n0;dog\n1;cat\n',
        '0.jpg,dog\n1.jpg,cat\n',
        '\ufeffnr,Filename,Class\n1,images/0.jpg,dog\n2,images/1.jpg,cat\n',
    ],
)
def test_tables_of_labels_are_read(tmp_path: Path, lines: str) -> None:
    write_table(tmp_path, lines)
    write_table(tmp_path, lines, name='val.csv')
    request = DataRequest(data_root=str(tmp_path))
    found = FOLDERS.resolve(request)
    assert found.classes == ('cat', 'dog')
    assert [line.rpartition('/')[2] for line in listed(tmp_path, request)['train']] == ['1.jpg 0', '0.jpg 1']


def test_labels_that_are_numbers_are_ordered_as_numbers(tmp_path: Path) -> None:
    write_table(tmp_path, 'path,label\n0.jpg,10\n1.jpg,2\n')
    write_table(tmp_path, 'path,label\n2.jpg,10\n', name='val.csv')
    assert FOLDERS.resolve(DataRequest(data_root=str(tmp_path))).classes == ('2', '10')


@pytest.mark.parametrize(
    ('lines', 'words'),
    [
        ('a,b,c\n1,2,3\n', r'columns are not known \(a, b, c\)'),
        ('path,label\n0.jpg,dog\n9.jpg,cat\n', r'1 of 2 images are not in .*: 9\.jpg'),
        ('path,label\n0.jpg,dog\n0.jpg,cat\n', '0.jpg has two labels, dog and cat'),
        ('path,label\n0.jpg,\n', 'lacks a path or a label'),
        ('', 'is empty'),
    ],
)
def test_tables_that_cannot_be_used_are_told(tmp_path: Path, lines: str, words: str) -> None:
    write_table(tmp_path, lines)
    with pytest.raises(UserError, match=rf'train\.csv: .*{words}'):
        FOLDERS.resolve(DataRequest(data_root=str(tmp_path)))
