"""Own segmentation data: pairs, classes and labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data_trees import MASK_SIZE, shared, write_mask, write_masks, write_pairs
from PIL import Image

from emo_mm.data.layouts.masks import MASKS
from emo_mm.data.layouts.masks.labels import check_labels, check_palettes, spread
from emo_mm.data.layouts.masks.pairs import find_folders, pair_up
from emo_mm.data.splits import DataRequest, read_classes
from emo_mm.errors import UserError


@pytest.mark.parametrize(
    ('images', 'masks'),
    [
        ('img_dir/{train}', 'ann_dir/{train}'),
        ('images/{train}', 'masks/{train}'),
        ('images/{training}', 'annotations/{training}'),
        ('{train}/images', '{train}/masks'),
    ],
)
def test_known_layouts_are_found(tmp_path: Path, images: str, masks: str) -> None:
    for split, long in (('train', 'training'), ('val', 'validation')):
        names = {'train': split, 'training': long}
        write_pairs(tmp_path / images.format(**names), tmp_path / masks.format(**names))
        assert find_folders(tmp_path, split) == (
            tmp_path / images.format(**names),
            tmp_path / masks.format(**names),
        )


@pytest.mark.parametrize('endings', [('.jpg', '.png'), ('_img.png', '_mask.png'), ('.png', '_L.png')])
def test_pairs_are_found_whatever_their_endings(tmp_path: Path, endings: tuple[str, str]) -> None:
    write_pairs(tmp_path / 'i', tmp_path / 'm', number=4, endings=endings)
    pairs = pair_up(tmp_path / 'i', tmp_path / 'm')
    assert len(pairs.stems) == 4
    for stem in pairs.stems:
        assert pairs.image(stem).is_file()
        assert pairs.mask(stem).is_file()


def test_a_file_without_partner_is_named(tmp_path: Path) -> None:
    write_pairs(tmp_path / 'i', tmp_path / 'm')
    (tmp_path / 'm' / 'scene1.png').unlink()
    with pytest.raises(UserError, match=r'1 of 3 files have no mask .* scene1.jpg'):
        pair_up(tmp_path / 'i', tmp_path / 'm')


def test_mixed_file_types_are_paired_by_the_rest_of_their_names(tmp_path: Path) -> None:
    write_pairs(tmp_path / 'i', tmp_path / 'm')
    (tmp_path / 'i' / 'scene1.jpg').rename(tmp_path / 'i' / 'scene1.JPG')
    pairs = pair_up(tmp_path / 'i', tmp_path / 'm')
    assert pairs.stems == ('scene0.jpg', 'scene1.JPG', 'scene2.jpg')
    assert [pairs.mask(stem).name for stem in pairs.stems] == ['scene0.png', 'scene1.png', 'scene2.png']
    (tmp_path / 'i' / 'scene1.png').write_bytes(b'')
    with pytest.raises(UserError, match='several files are called scene1'):
        pair_up(tmp_path / 'i', tmp_path / 'm')


def test_classes_of_a_file_and_counts(tmp_path: Path) -> None:
    found = MASKS.resolve(write_masks(tmp_path))
    assert found.classes == ('sky', 'road', 'car')
    assert found.lines()[0] == '3 classes from CLASSES.txt: sky, road, car'
    assert found.lines()[1] == 'train: img_dir/train: 3 of 3 images have a mask, labels checked in 3 of them'


def test_classes_of_the_palette(tmp_path: Path) -> None:
    colours = [0, 0, 0, 200, 10, 10, 10, 200, 10]
    labels = np.arange(MASK_SIZE[0] * MASK_SIZE[1]).reshape(MASK_SIZE[1], MASK_SIZE[0]) % 3
    labels[0, 0] = 255
    for split in ('train', 'val'):
        write_pairs(tmp_path / 'images' / split, tmp_path / 'masks' / split)
        for index in range(3):
            write_mask(tmp_path / 'masks' / split / f'scene{index}.png', labels, colours)
    found = MASKS.resolve(DataRequest(data_root=str(tmp_path)))
    assert found.classes == ('class_0', 'class_1', 'class_2')
    assert found.names.palette == [(0, 0, 0), (200, 10, 10), (10, 200, 10)]


def test_masks_without_names_or_palette_ask_for_names(tmp_path: Path) -> None:
    request = write_masks(tmp_path)
    (tmp_path / 'CLASSES.txt').unlink()
    with pytest.raises(UserError, match='--classes FILE'):
        MASKS.resolve(request)


def test_undeclared_labels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'scene0.png: holds 1 label beyond the 2 classes 0 to 1: 2; .* 3 names'):
        MASKS.resolve(write_masks(tmp_path, 'road\ncar\n'))


def test_masks_of_0_and_255_are_refused_where_there_are_more_than_two_classes(tmp_path: Path) -> None:
    request = write_masks(tmp_path)
    labels = np.where(np.arange(MASK_SIZE[0] * MASK_SIZE[1]).reshape(MASK_SIZE[1], MASK_SIZE[0]) % 2, 255, 0)
    for path in (tmp_path / 'ann_dir').rglob('*.png'):
        write_mask(path, labels)
    with pytest.raises(UserError, match='only label 0 found besides 255'):
        MASKS.resolve(request)


def test_sizes_must_agree_after_exif_rotation(tmp_path: Path) -> None:
    write_pairs(tmp_path / 'i', tmp_path / 'm', number=1)
    pairs = pair_up(tmp_path / 'i', tmp_path / 'm')
    path = tmp_path / 'i' / 'scene0.jpg'
    Image.new('RGB', (MASK_SIZE[1], MASK_SIZE[0])).save(path)
    with pytest.raises(UserError, match='is 16x12 but its image is 12x16'):
        check_labels(pairs, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.new('RGB', (MASK_SIZE[1], MASK_SIZE[0])).save(path, exif=exif)
    assert check_labels(pairs, 3) == 1


@pytest.mark.parametrize(
    ('write', 'message'),
    [
        (lambda path: Image.new('RGB', MASK_SIZE).save(path), '3 channels'),
        (lambda path: path.write_bytes(b'<html>'), 'cannot be read as an image'),
        (lambda path: Image.fromarray(np.full((12, 16), 999, np.uint16)).save(path), '999 to 999'),
    ],
)
def test_files_that_are_no_index_masks_are_refused(tmp_path: Path, write, message: str) -> None:
    request = write_masks(tmp_path)
    write(tmp_path / 'ann_dir' / 'train' / 'scene0.png')
    with pytest.raises(UserError, match=message):
        MASKS.resolve(request)


@pytest.mark.parametrize(
    ('text', 'names'),
    [
        ('sky\nroad\n', ['sky', 'road']),
        ('# colours aside\n1 road side\n0: sky\n255 ignore\n', ['sky', 'road side']),
        ('3 wheeler\nvan\n', ['3 wheeler', 'van']),
    ],
)
def test_class_files(tmp_path: Path, text: str, names: list[str]) -> None:
    (tmp_path / 'names.txt').write_text(text)
    assert read_classes(tmp_path / 'names.txt') == names


@pytest.mark.parametrize(
    ('text', 'message'), [('', 'no class names'), ('a\na\n', 'more than once'), ('0 a\n2 b\n', 'without gaps')]
)
def test_faulty_class_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / 'names.txt').write_text(text)
    with pytest.raises(UserError, match=message):
        read_classes(tmp_path / 'names.txt')


def test_checks_are_spread_over_the_split() -> None:
    assert spread(list(map(str, range(200))), 4) == ['0', '50', '100', '150']
    assert spread(['a'], 4) == ['a']


def test_camvid_is_counted() -> None:
    found = MASKS.resolve(shared('camvid'))
    assert {split: len(part.pairs.stems) for split, part in found.splits.items()} == {
        'train': 367,
        'val': 101,
        'test': 233,
    }
    assert (len(found.classes), found.classes[0]) == (11, 'Sky')


@pytest.mark.parametrize(
    ('text', 'classes'),
    [
        (
            '# label:color_rgb:parts:actions\nbackground:0,0,0::\nsquare:220,30,30::\ndisc:::\n',
            ['background', 'square', 'disc'],
        ),
        ('__ignore__\n_background_\nsquare\ndisc\n', ['_background_', 'square', 'disc']),
        ('time: day\ntime: night\n', ['time: day', 'time: night']),
    ],
)
def test_class_files_of_annotation_tools_are_understood(tmp_path: Path, text: str, classes: list[str]) -> None:
    (tmp_path / 'labels.txt').write_text(text)
    assert read_classes(tmp_path / 'labels.txt') == classes


@pytest.mark.parametrize(('values', 'said'), [((0, 255), '255 must be rewritten as 1'), ((0, 0), 'one class only')])
def test_masks_of_one_class_are_refused_with_the_way_out(tmp_path: Path, values: tuple[int, int], said: str) -> None:
    write_pairs(tmp_path / 'i', tmp_path / 'm')
    for path in (tmp_path / 'm').iterdir():
        with Image.open(path) as mask:
            mask = np.where(np.asarray(mask) > 0, values[1], values[0]).astype(np.uint8)
        Image.fromarray(mask).save(path)
    with pytest.raises(UserError, match=said):
        check_labels(pair_up(tmp_path / 'i', tmp_path / 'm'), 1)


def test_masks_whose_palettes_disagree_are_refused_by_two_files(tmp_path: Path) -> None:
    for name, colours in (('a', (0, 0, 0, 200, 0, 0)), ('b', (0, 0, 0, 200, 0, 0)), ('c', (200, 0, 0, 0, 0, 0))):
        mask = Image.fromarray(np.eye(4, dtype=np.uint8))
        mask.putpalette(colours)
        mask.save(tmp_path / f'{name}.png')
    paths = [tmp_path / f'{name}.png' for name in 'abc']
    check_palettes(paths[:2])
    with pytest.raises(UserError, match=r'a\.png and .*c\.png: label 0 is \(0, 0, 0\)'):
        check_palettes(paths)
    Image.fromarray(np.eye(4, dtype=np.uint8)).save(tmp_path / 'c.png')  # grey: nothing to compare
    check_palettes(paths)
