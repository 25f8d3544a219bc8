"""Faults of single images and annotations: found before the first step, named, and stopped at or left out as asked."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from data_trees import MASK_SIZE, annotations, build, shared, write_coco, write_folders, write_mask, write_masks
from PIL import Image
from planning import load_run_config

from emo_mm.data.files.cache import CheckCache
from emo_mm.data.files.check import check_files, check_image, check_mask
from emo_mm.data.splits import DataRequest
from emo_mm.engine.options import RunOptions, TrainOptions
from emo_mm.errors import UserError

pytestmark = pytest.mark.toolbox

CONFIGS = {'det': 'ssdlite_emo_1m_demo', 'seg': 'deeplabv3_emo_1m_demo', 'cls': 'emo_1m_demo'}
WRITERS = {'det': write_coco, 'seg': write_masks, 'cls': write_folders}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv('EMO_MM_CACHE', str(tmp_path / 'cache'))


def noise(path: Path, size: tuple[int, int] = (64, 48)) -> Path:
    """A file of some kilobytes, so that half of it is really cut off."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def cut(path: Path) -> None:
    noise(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def image_of(root: Path, task: str) -> Path:
    """The image that the tests of a task do harm to."""
    return root / {'det': 'images/1.jpg', 'seg': 'img_dir/train/scene1.jpg', 'cls': 'train/paper/1.png'}[task]


def options(root: Path, task: str, tmp_path: Path, **more) -> TrainOptions:
    request = DataRequest(data_root=str(root))
    return TrainOptions(CONFIGS[task], work_dir=str(tmp_path / 'run'), data=request, **more)


def listed(tmp_path: Path) -> list[dict[str, str]]:
    with (tmp_path / 'run' / 'data_faults.csv').open() as file:
        return list(csv.DictReader(file))


def lengths(cfg) -> dict[str, int]:
    """How many images the toolbox's own data sets then hold."""
    return {split: len(build(cfg, split)) for split in ('train', 'val')}


# --- files
@pytest.mark.parametrize('task', CONFIGS)
@pytest.mark.parametrize(
    ('harm', 'message'),
    [
        (cut, 'truncated image'),
        (lambda path: path.write_bytes(b''), 'empty file'),
        (lambda path: path.write_text('<html>404</html>'), 'no image, or damaged from its beginning'),
        (lambda path: path.unlink(), 'missing file'),
    ],
    ids=['cut off', 'empty', 'no image', 'missing'],
)
def test_an_unreadable_image_is_named_before_the_training(tmp_path, task, harm, message):
    root = tmp_path / 'data'
    WRITERS[task](root)
    path = image_of(root, task)
    harm(path)
    if message == 'missing file' and task != 'det':
        return  # what is not there is not listed either
    with pytest.raises(UserError, match=message) as raised:
        load_run_config(options(root, task, tmp_path), training=True)
    assert path.name in str(raised.value)
    assert '--bad-data skip' in str(raised.value)
    found = listed(tmp_path)
    # the splits of the detection data share their images
    assert {row['fault'] for row in found} == {message} or task == 'seg'
    assert path.as_posix() in {row['file'] for row in found}


@pytest.mark.parametrize(('task', 'left'), [('det', (2, 1)), ('seg', (2, 3)), ('cls', (2, 3))])
def test_a_bad_image_is_left_out_where_that_is_asked_for(tmp_path, task, left):
    root = tmp_path / 'data'
    WRITERS[task](root)
    image_of(root, task).write_bytes(b'')
    before = {path: path.read_bytes() for path in sorted(root.rglob('*')) if path.is_file()}
    cfg, lines = load_run_config(options(root, task, tmp_path, bad_data='skip'), training=True)
    assert any(line.startswith('train: 1 image') and 'left out' in line for line in lines)
    found = lengths(cfg)
    assert (found['train'], found['val']) == left
    assert {path: path.read_bytes() for path in sorted(root.rglob('*')) if path.is_file()} == before


def test_the_check_can_be_passed_over(tmp_path):
    write_folders(tmp_path / 'folders')
    image_of(tmp_path / 'folders', 'cls').write_bytes(b'')
    load_run_config(options(tmp_path / 'folders', 'cls', tmp_path, check=None), training=True)


def test_damage_inside_a_file_needs_the_full_check(tmp_path):
    root = tmp_path / 'data'
    write_folders(root)
    path = noise(image_of(root, 'cls'))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF  # the check sums of PNG tell
    path.write_bytes(content)
    load_run_config(options(root, 'cls', tmp_path), training=True)
    with pytest.raises(UserError, match='damaged image'):
        load_run_config(options(root, 'cls', tmp_path, check='full'), training=True)


def test_nothing_left_is_an_error(tmp_path):
    write_folders(tmp_path / 'data')
    for path in (tmp_path / 'data' / 'train').rglob('*.png'):
        path.write_bytes(b'')
    with pytest.raises(UserError, match='train: no image is left'):
        load_run_config(options(tmp_path / 'data', 'cls', tmp_path, bad_data='skip'), training=True)


# --- boxes
def first(content: dict, **changes) -> None:
    content['annotations'][0].update(changes)


BOX_FAULTS = {
    'no area': (lambda c: first(c, bbox=[4, 4, 0, 8]), 'box of no area', '0.jpg', (3, 2)),
    'outside': (lambda c: first(c, bbox=[400, 4, 10, 8]), 'box outside its image', '0.jpg', (3, 2)),
    'undeclared category': (lambda c: first(c, category_id=99), 'undeclared category', '0.jpg', (3, 2)),
    'no box': (lambda c: first(c, bbox=[1, 2, 3]), 'bbox that is no box', '0.jpg', (3, 2)),
    'not a number': (lambda c: first(c, bbox=[1, 2, 3, float('nan')]), 'bbox that is no box', '0.jpg', (3, 2)),
    'size': (lambda c: c['images'][0].update(width=40), 'size other than annotated', '0.jpg', (2, 2)),
    'no size': (lambda c: c['images'][0].update(width=0), 'image without a size', '0.jpg', (2, 2)),
    'image id twice': (lambda c: c['images'][1].update(id=1), 'image id used twice', '1.jpg', (1, 1)),
    'image listed twice': (lambda c: c['images'].append(dict(c['images'][0])), 'image id used twice', '0.jpg', (3, 3)),
}


@pytest.mark.parametrize('fault', BOX_FAULTS)
def test_a_faulty_annotation_is_named_with_its_file_and_can_be_left_out(tmp_path, fault):
    harm, message, name, (images, boxes) = BOX_FAULTS[fault]
    content = annotations()
    harm(content)
    write_coco(tmp_path / 'data', train=content)
    with pytest.raises(UserError, match=message) as raised:
        load_run_config(options(tmp_path / 'data', 'det', tmp_path), training=True)
    assert name in str(raised.value)
    assert name in {Path(row['file']).name for row in listed(tmp_path) if row['fault'] == message}
    cfg, lines = load_run_config(options(tmp_path / 'data', 'det', tmp_path, bad_data='skip'), training=True)
    left = json.loads(Path(cfg.train_dataloader.dataset.ann_file).read_text())
    assert (len(left['images']), len(left['annotations'])) == (images, boxes)
    assert any('left out; what is left is listed in' in line for line in lines)
    dataset_classes = cfg.train_dataloader.dataset.metainfo.classes
    assert tuple(dataset_classes) == ('cat', 'dog')
    cfg.train_dataloader.dataset.filter_cfg = None
    assert lengths(cfg)['train'] == images


def test_the_evaluator_takes_the_list_without_the_faulty_parts_too(tmp_path):
    content = annotations()
    first(content, category_id=99)
    write_coco(tmp_path / 'data', val=content)
    cfg, _ = load_run_config(options(tmp_path / 'data', 'det', tmp_path, bad_data='skip'), training=True)
    assert cfg.val_evaluator.ann_file == cfg.val_dataloader.dataset.ann_file
    assert 'checked_data' in cfg.val_evaluator.ann_file


def test_what_the_toolbox_copes_with_is_told_and_no_error(tmp_path):
    content = annotations()
    first(content, bbox=[20, 4, 20, 8])  # eight pixels beyond the right border
    del content['annotations'][2]
    write_coco(tmp_path / 'data', train=content)
    _, lines = load_run_config(options(tmp_path / 'data', 'det', tmp_path), training=True)
    text = '\n'.join(lines)
    assert 'no fault, 2 notes' in text
    assert 'note: box that reaches beyond its image' in text
    assert 'note: image without a box' in text
    assert '2.jpg' in text


def test_a_turned_photograph_with_the_size_of_its_file_is_told(tmp_path):
    write_coco(tmp_path / 'data')
    image = Image.new('RGB', (32, 24))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / 'data' / 'images' / '0.jpg', exif=exif)
    with pytest.raises(UserError, match=r'24x32, in train.json 32x24; its EXIF data turn it'):
        load_run_config(options(tmp_path / 'data', 'det', tmp_path), training=True)


# --- masks
def harm_labels(mask: Path, image: Path) -> None:
    write_mask(mask, np.full(MASK_SIZE[::-1], 7))


def harm_size(mask: Path, image: Path) -> None:
    write_mask(mask, np.zeros((5, 5)))


MASK_FAULTS = {
    'undeclared label': (harm_labels, 'undeclared label'),
    'another size': (harm_size, 'mask of another size'),
    'colours': (lambda mask, image: Image.new('RGB', MASK_SIZE).save(mask), 'mask of several channels'),
    'cut off': (lambda mask, image: mask.write_bytes(mask.read_bytes()[:-30]), 'truncated mask|damaged mask'),
}


@pytest.mark.parametrize('fault', MASK_FAULTS)
def test_a_faulty_mask_is_named_wherever_it_is_and_can_be_left_out(tmp_path, fault):
    harm, message = MASK_FAULTS[fault]
    write_masks(tmp_path / 'data')
    harm(tmp_path / 'data/ann_dir/train/scene1.png', tmp_path / 'data/img_dir/train/scene1.jpg')
    with pytest.raises(UserError, match=message) as raised:
        load_run_config(options(tmp_path / 'data', 'seg', tmp_path), training=True)
    assert 'ann_dir/train/scene1.png' in str(raised.value)
    cfg, _ = load_run_config(options(tmp_path / 'data', 'seg', tmp_path, bad_data='skip'), training=True)
    assert lengths(cfg) == {'train': 2, 'val': 3}


def test_a_mask_of_ignored_pixels_only_is_told(tmp_path):
    write_masks(tmp_path / 'data')
    write_mask(tmp_path / 'data/ann_dir/train/scene1.png', np.full(MASK_SIZE[::-1], 255))
    _, lines = load_run_config(options(tmp_path / 'data', 'seg', tmp_path), training=True)
    assert any('note: mask without a label' in line and 'scene1.png' in line for line in lines)


def test_masks_that_hold_nothing_to_learn_are_refused(tmp_path):
    write_masks(tmp_path / 'data')
    for path in (tmp_path / 'data/ann_dir/train').iterdir():
        write_mask(path, np.where(np.arange(12)[:, None] < 6, 0, 255) * np.ones((1, 16)))
    with pytest.raises(UserError, match='only label 0 found besides 255'):
        load_run_config(options(tmp_path / 'data', 'seg', tmp_path), training=True)


# --- commands
def test_the_commands_have_the_options(tmp_path, run_cli):
    write_folders(tmp_path / 'data')
    path = image_of(tmp_path / 'data', 'cls')
    path.write_bytes(b'')
    args = ['train', CONFIGS['cls'], '--data-root', tmp_path / 'data', '--work-dir', tmp_path / 'run']
    result = run_cli(*args)
    assert result.code == 1
    assert 'train  empty file' in result.err
    assert path.as_posix() in result.err
    assert 'Traceback' not in result.err
    assert run_cli(*args, '--bad-data', 'ask').code == 2
    assert run_cli(*args, '--check', 'some').code == 2


def test_the_test_split_is_checked_before_a_test(tmp_path):
    write_folders(tmp_path / 'data', splits=('train', 'val', 'test'))
    (tmp_path / 'data' / 'test' / 'paper' / '1.png').write_bytes(b'')
    run = options(tmp_path / 'data', 'cls', tmp_path)
    load_run_config(run, training=True)
    with pytest.raises(UserError, match=r'test   empty file .*1\.png'):
        load_run_config(RunOptions(run.config, work_dir=run.work_dir, data=run.data), training=False)


# --- single files, and what is remembered of them
def test_many_files_are_checked_by_several_processes_with_the_same_answers(tmp_path, monkeypatch):
    monkeypatch.setattr('emo_mm.data.files.check.available_cores', lambda: 2)
    paths = [str(noise(tmp_path / f'{i}.png', (8, 6 + i % 3))) for i in range(300)]
    Path(paths[170]).write_bytes(b'no')
    answers = check_files(paths, 'quick')
    assert answers == [check_image(path, full=False) for path in paths]
    assert [i for i, answer in enumerate(answers) if answer.kind] == [170]


def test_a_file_is_read_again_only_after_it_changed(tmp_path, monkeypatch):
    cache = CheckCache(tmp_path / 'cache')
    paths = [str(noise(tmp_path / f'{i}.png')) for i in range(3)]
    Path(paths[2]).write_bytes(b'')
    asked = []

    def count(chunk):
        asked.extend(chunk[0])
        return [check_image(path, full=False) for path in chunk[0]]

    monkeypatch.setattr('emo_mm.data.files.check._ask_chunk', count)
    found = check_files(paths, 'full', cache)
    assert asked == paths
    asked.clear()
    assert check_files(paths, 'quick', cache) == found
    assert asked == [paths[2]]  # what is wrong is looked at again, and the full check answers the quick one
    noise(Path(paths[0]), (5, 5))
    os.utime(paths[0], ns=(1, 1))
    asked.clear()
    assert check_files(paths, 'quick', cache)[0].width == 5
    assert asked == [paths[0], paths[2]]


def test_a_cache_that_is_broken_or_cannot_be_written_costs_time_only(tmp_path):
    path = str(noise(tmp_path / 'a.png'))
    (tmp_path / 'file').touch()
    assert check_files([path], 'quick', CheckCache(tmp_path / 'file' / 'below'))[0].kind == ''
    cache = CheckCache(tmp_path / 'cache')
    cache.path.parent.mkdir()
    cache.path.write_text('no database')
    assert check_files([path], 'quick', cache)[0].kind == ''
    check_files([path], 'quick', cache)
    assert cache.get([path], [(Path(path).stat().st_size, Path(path).stat().st_mtime_ns)], 'quick')


def test_jpeg_files_with_something_after_their_end_are_decoded_to_be_sure(tmp_path):
    path = noise(tmp_path / 'a.jpg')
    path.write_bytes(path.read_bytes() + b'made by a camera')
    assert check_image(str(path), full=False).kind == ''


def test_labels_of_a_mask_are_counted(tmp_path):
    write_mask(tmp_path / 'a.png', np.array([[0, 3], [255, 3]]))
    answer = check_mask(str(tmp_path / 'a.png'))
    assert (answer.labels, answer.width, answer.height) == ((0, 3, 255), 2, 2)


@pytest.mark.parametrize(
    ('name', 'config'),
    [
        ('coco_tiny', 'ssdlite_emo_2m_coco'),
        ('bccd', 'ssdlite_emo_1m_demo'),
        ('ade_tiny', 'deeplabv3_emo_1m_ade20k'),
        ('camvid', 'deeplabv3_emo_1m_demo'),
        ('imagenet_tiny', 'emo_1m_demo'),
        ('trashnet', 'emo_1m_demo'),
    ],
)
def test_real_data_pass(tmp_path, name, config):
    run = TrainOptions(config, work_dir=str(tmp_path / 'run'), data=shared(name))
    _, lines = load_run_config(run, training=True)
    assert any('quick check of' in line and 'no fault' in line for line in lines)
