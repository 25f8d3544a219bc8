from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emo_mm.data.shapes import generate as shapes
from emo_mm.data.shapes.generate import CLASSES, PALETTE, generate
from emo_mm.data.shapes.painter import paint_scene
from emo_mm.errors import UserError

SIZE = 128
TRAIN, VAL = 14, 5


@pytest.fixture(scope='module')
def tree(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('shapes') / 'demo'
    summary = generate(root, TRAIN, VAL, size=SIZE, seed=3)
    assert summary.created
    return root


def annotations(root: Path, split: str) -> dict:
    return json.loads((root / 'annotations' / f'instances_{split}.json').read_text())


def decode(run_lengths: dict) -> np.ndarray:
    """Mask of uncompressed COCO run lengths, written without the code under test."""
    height, width = run_lengths['size']
    flat = []
    for index, length in enumerate(run_lengths['counts']):
        flat += [index % 2 == 1] * length
    return np.array(flat).reshape(width, height).T  # runs go down the columns: (width * height,) -> (height, width)


def hashes(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob('*'))
        if path.is_file()
    }


def test_every_box_is_tight_around_the_visible_pixels_of_its_shape(tree):
    for split in ('train', 'val'):
        for annotation in annotations(tree, split)['annotations']:
            mask = decode(annotation['segmentation'])
            assert mask.shape == (SIZE, SIZE)
            rows, columns = np.nonzero(mask)
            left, top, width, height = annotation['bbox']
            assert (left, top) == (columns.min(), rows.min())
            assert (left + width, top + height) == (columns.max() + 1, rows.max() + 1)
            assert annotation['area'] == mask.sum() > 0
            assert width > 1
            assert height > 1


def test_run_lengths_are_those_that_pycocotools_reads(tree):
    mask_tools = pytest.importorskip('pycocotools.mask')
    for annotation in annotations(tree, 'val')['annotations']:
        runs = annotation['segmentation']
        packed = mask_tools.frPyObjects(runs, *runs['size'])
        np.testing.assert_array_equal(mask_tools.decode(packed).astype(bool), decode(runs))
        np.testing.assert_array_equal(mask_tools.toBbox(packed), annotation['bbox'])


def test_semantic_mask_is_the_union_of_the_disjoint_shapes_of_each_class(tree):
    content = annotations(tree, 'train')
    assert len(content['images']) == TRAIN
    for image in content['images']:
        semantic = np.zeros((SIZE, SIZE), np.uint8)
        for annotation in content['annotations']:
            if annotation['image_id'] == image['id']:
                mask = decode(annotation['segmentation'])
                assert not semantic[mask].any(), 'two shapes share a pixel'
                semantic[mask] = annotation['category_id']
        stored = Image.open(tree / 'masks' / 'train' / image['file_name'].replace('.jpg', '.png'))
        assert stored.mode == 'P'
        assert tuple(stored.getpalette()[: 3 * len(PALETTE)]) == tuple(value for colour in PALETTE for value in colour)
        np.testing.assert_array_equal(np.array(stored), semantic)


def test_categories_class_list_and_ids_agree(tree):
    lines = (tree / 'masks' / 'CLASSES.txt').read_text().splitlines()
    assert lines == ['0 background'] + [f'{index} {name}' for index, name in enumerate(CLASSES, start=1)]
    for split in ('train', 'val'):
        content = annotations(tree, split)
        assert [(entry['id'], entry['name']) for entry in content['categories']] == list(enumerate(CLASSES, start=1))
        assert {entry['category_id'] for entry in content['annotations']} <= set(range(1, len(CLASSES) + 1))
        ids = [entry['id'] for entry in content['annotations']]
        assert len(set(ids)) == len(ids)
        for image in content['images']:
            with Image.open(tree / 'images' / split / image['file_name']) as picture:
                assert picture.size == (image['width'], image['height']) == (SIZE, SIZE)
                assert picture.mode == 'RGB'


def test_every_image_has_a_shape_and_every_class_occurs(tree):
    content = annotations(tree, 'train')
    assert {entry['image_id'] for entry in content['annotations']} == {entry['id'] for entry in content['images']}
    assert len({entry['category_id'] for entry in content['annotations']}) == len(CLASSES)


def test_class_folders_hold_one_picture_in_four_of_the_split(tree):
    for split, count in (('train', TRAIN // 4), ('val', VAL // 4)):
        folders = sorted(path.name for path in (tree / 'folders' / split).iterdir())
        assert folders == sorted(CLASSES)
        for name in folders:
            files = list((tree / 'folders' / split / name).glob('*.jpg'))
            assert len(files) == count
            assert Image.open(files[0]).size == (SIZE // 2, SIZE // 2)


def test_same_parameters_give_the_same_bytes_and_another_seed_gives_others(tree, tmp_path):
    generate(tmp_path / 'again', TRAIN, VAL, size=SIZE, seed=3)
    assert hashes(tmp_path / 'again') == hashes(tree)
    generate(tmp_path / 'other', 2, 1, size=SIZE, seed=4)
    name = 'images/train/000000.jpg'
    assert hashes(tmp_path / 'other')[name] != hashes(tree)[name]


def test_train_and_val_share_no_picture_and_a_larger_set_begins_with_the_smaller(tree, tmp_path):
    digests = list(hashes(tree / 'images').values())
    assert len(set(digests)) == len(digests) == TRAIN + VAL
    generate(tmp_path / 'small', 3, 1, size=SIZE, seed=3)
    name = 'images/train/000002.jpg'
    assert hashes(tmp_path / 'small')[name] == hashes(tree)[name]


def test_second_call_writes_nothing_but_a_changed_parameter_or_a_lost_file_does(tmp_path):
    root = tmp_path / 'demo'
    first = generate(root, 2, 1, size=64)
    before = {path: path.stat().st_mtime_ns for path in root.rglob('*')}
    second = generate(root, 2, 1, size=64)
    assert not second.created
    assert second.boxes == first.boxes
    assert {path: path.stat().st_mtime_ns for path in root.rglob('*')} == before

    (root / 'images' / 'val' / '000000.jpg').unlink()
    assert generate(root, 2, 1, size=64).created
    assert (root / 'images' / 'val' / '000000.jpg').is_file()

    assert generate(root, 3, 1, size=64).created
    assert len(list((root / 'images' / 'train').iterdir())) == 3


def test_an_interrupted_run_leaves_no_trace(tmp_path, monkeypatch):
    calls = []

    def interrupted(*arguments, **keywords):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return paint_scene(*arguments, **keywords)

    monkeypatch.setattr(shapes, 'paint_scene', interrupted)
    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path / 'demo', 4, 1, size=64)
    assert list(tmp_path.iterdir()) == []


def test_foreign_contents_are_left_alone(tmp_path):
    foreign = tmp_path / 'photos'
    foreign.mkdir()
    (foreign / 'holiday.jpg').write_bytes(b'precious')
    with pytest.raises(UserError, match=r'photos holds files but no shapes\.json'):
        generate(foreign, 1, 1, size=64)
    assert (foreign / 'holiday.jpg').read_bytes() == b'precious'

    root = tmp_path / 'demo'
    generate(root, 1, 1, size=64)
    (root / 'notes.txt').write_text('mine')
    with pytest.raises(UserError, match=r"'notes\.txt'"):
        generate(root, 2, 1, size=64)
    assert (root / 'notes.txt').read_text() == 'mine'

    with pytest.raises(UserError, match='is a file'):
        generate(foreign / 'holiday.jpg')


def test_an_empty_folder_is_filled(tmp_path):
    assert generate(tmp_path, 1, 1, size=64).created
    assert (tmp_path / 'shapes.json').is_file()


@pytest.mark.parametrize(('name', 'value'), [('num_train', 0), ('num_val', -1), ('size', 32), ('seed', -1)])
def test_parameter_out_of_range_is_named(tmp_path, name, value):
    with pytest.raises(UserError, match=rf'{name} must be at least \d+, got {value}'):
        generate(tmp_path / 'demo', **{name: value})


def test_shapes_hide_at_most_a_fifth_of_each_other():
    for seed in range(6):
        rng = np.random.Generator(np.random.PCG64(seed))
        scene = paint_scene(rng, 96, [1] * 6, side_range=(0.4, 0.4))
        assert scene.labels == (1,) * len(scene.masks)
        # Turned by 45 degrees and squeezed to 0.8, a square fills 0.494 of the square around it: the least it can.
        areas = scene.masks.sum(axis=(1, 2))
        assert areas.min() >= 0.8 * 0.48 * (0.4 * 96) ** 2
        assert scene.masks.sum(axis=0).max() == 1


def test_command_prints_counts_and_reports_a_fault_in_one_line(tmp_path, capsys):
    root = tmp_path / 'demo'
    assert shapes.main([str(root), '--num-train', '1', '--num-val', '1', '--size', '64']) == 0
    assert 'train: 1 images' in capsys.readouterr().out
    assert shapes.main([str(root), '--num-train', '0']) == 1
    output = capsys.readouterr()
    assert output.out == ''
    assert output.err == 'error: num_train must be at least 1, got 0\n'
