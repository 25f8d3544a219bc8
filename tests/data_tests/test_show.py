"""``emo-mm data show``: what is counted is what a training would read, and what is odd is said."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import box_trees
import numpy as np
import outline_trees
import pytest
from data_trees import annotations, shared, write_coco, write_folders, write_masks
from PIL import Image

from emo_mm.data import layouts
from emo_mm.data.layouts import LAYOUTS, Row
from emo_mm.data.show import command
from emo_mm.data.show.figures import Figures, figures_of
from emo_mm.data.show.files import facts_of
from emo_mm.data.show.findings import findings_of, pairs_of
from emo_mm.data.show.sheets import choose
from emo_mm.data.show.survey import Survey, survey
from emo_mm.data.show.twins import find_twins
from emo_mm.data.splits import DataRequest
from emo_mm.errors import UserError
from emo_mm.tasks import TASKS

pytestmark = pytest.mark.toolbox


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('EMO_MM_CACHE', str(tmp_path / 'cache'))


@pytest.fixture
def look(tmp_path: Path) -> Callable[..., tuple[Survey, Figures]]:
    """Look through a data set."""

    def look(root: Path, task: str | None = None, **more: Any) -> tuple[Survey, Figures]:
        seen = survey(
            DataRequest(data_root=str(root), **more), TASKS[task] if task else None, tmp_path / 'checked_data'
        )
        return seen, figures_of(seen)

    return look


@pytest.fixture
def show(run_cli: Callable[..., Any], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Show a data set, and return the numbers with the printed lines as ``printed`` and the page as ``page``."""

    def show(root: Path, *words: str) -> dict[str, Any]:
        out = tmp_path / 'report'
        done = run_cli('data', 'show', root, '--out', out, *words)
        assert done.code == 0, done.err
        numbers: dict[str, Any] = json.loads((out / 'statistics.json').read_text())
        page = (out / 'index.html').read_text(encoding='utf-8')
        return {**numbers, 'printed': done.out.splitlines(), 'page': page}

    return show


def texts(seen: tuple[Survey, Figures]) -> list[str]:
    return [finding.line() for finding in findings_of(*seen, pairs_of(seen[0]))]


def noise(path: Path, seed: int, size: tuple[int, int] = (64, 48), **how: Any) -> Image.Image:
    """A picture like no other: smooth fields of colour."""
    fields = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), np.uint8)
    picture = Image.fromarray(fields).resize(size, Image.Resampling.BICUBIC)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, **how)
    return picture


def content_of(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob('*')
        if path.is_file()
    }


# --- every layout
@pytest.mark.parametrize('tree', box_trees.TREES)
def test_the_boxes_of_every_format_are_counted(tree, tmp_path, look):
    layout, write = box_trees.TREES[tree]
    write(tmp_path / 'toys')
    seen, figures = look(tmp_path / 'toys', layout=layout)
    assert seen.classes == ('cat', 'dog')
    assert {name: of.images.tolist() for name, of in figures.classes.items()} == {'train': [1, 2], 'val': [2, 1]}
    assert {name: of.labels.tolist() for name, of in figures.classes.items()} == {'train': [1, 2], 'val': [2, 1]}
    assert sorted(figures.boxes['train'].sizes) == pytest.approx(sorted([128**0.5] * 3))


@pytest.mark.parametrize('tree', outline_trees.TREES)
def test_the_pixels_of_outlines_are_counted(tree, tmp_path, look):
    layout, write = outline_trees.TREES[tree]
    write(tmp_path / 'toys')
    _, figures = look(tmp_path / 'toys', 'seg', layout=layout)
    for split, of in figures.classes.items():
        counts = sum(np.bincount(mask.ravel(), minlength=3) for mask in outline_trees.MASKS[split].values())
        assert of.labels.tolist() == counts.tolist()


def test_outlines_of_a_detector_are_drawn_around_its_boxes(tmp_path, look):
    outline_trees.coco(tmp_path / 'toys')
    seen, _ = look(tmp_path / 'toys', 'det')
    boxes = next(image.labels.boxes for image in seen.images if image.path.stem == 'b')
    left, top, right, bottom = outline_trees.TOYS['train']['b'][0][1:]
    assert [box.outlines for box in boxes] == [((left, top, right, top, right, bottom, left, bottom),)]


def test_pixels_of_masks_and_images_of_folders_are_counted(tmp_path, look):
    write_masks(tmp_path / 'masks')
    _, figures = look(tmp_path / 'masks')
    assert figures.classes['train'].labels.tolist() == [3 * 63, 3 * 64, 3 * 64]
    assert figures.classes['train'].ignored == 3
    write_folders(tmp_path / 'folders')
    seen, figures = look(tmp_path / 'folders')
    assert seen.classes == ('glass', 'paper')
    assert figures.classes['val'].labels.tolist() == [1, 2]


def test_a_layout_of_one_file_and_one_row_is_shown(tmp_path, monkeypatch, look):
    monkeypatch.setattr(layouts, 'LAYOUTS', (*LAYOUTS, Row(('cls',), 'toy_layout:TOY')))
    for index in range(2):
        noise(tmp_path / 'toys' / f'{index}.png', index)
    (tmp_path / 'toy_train.csv').write_text('toys/0.png,ball\ntoys/1.png,kite\n')
    seen, figures = look(tmp_path)
    assert (seen.layout, seen.classes, figures.classes['train'].labels.tolist()) == (
        'toy tables',
        ('ball', 'kite'),
        [1, 1],
    )


# --- splits
@pytest.fixture
def undivided(tmp_path: Path) -> Path:
    for label, name in enumerate(('glass', 'paper')):
        for index in range(10):
            noise(tmp_path / 'flat' / name / f'{"abcdefghij"[index]}.jpg', 10 * label + index)
    return tmp_path / 'flat'


def test_a_data_set_without_splits_is_shown_as_one_part(undivided, look):
    seen = look(undivided)
    assert [part.name for part in seen[0].parts] == ['all']
    assert any('there are no splits: --split' in text for text in texts(seen))


def test_split_shows_the_parts_that_a_training_would_have(undivided, look):
    seen, figures = look(undivided, split='0.8/0.2')
    assert {name: of.labels.tolist() for name, of in figures.classes.items()} == {'train': [8, 8], 'val': [2, 2]}
    assert seen.lines[0].startswith('--split 0.8/0.2: 20 images divided into train 16, val 4')


def test_a_coco_file_is_divided_without_a_trace_of_temporary_files(tmp_path, look):
    write_coco(tmp_path / 'data', annotations(images=10))
    shutil.rmtree(tmp_path / 'data' / 'images')
    for index in range(10):
        noise(tmp_path / 'data' / 'images' / f'{index}.jpg', index, (32, 24))
    (tmp_path / 'data' / 'annotations' / 'val.json').unlink()
    seen, _ = look(tmp_path / 'data', split='0.8/0.2')
    assert seen.lines[1].startswith('train: checked_data/split_train.json: 8 of 8 images found')
    assert not any(str(tmp_path) in line for line in seen.lines)


def test_masks_without_splits_are_shown(tmp_path, look):
    write_masks(tmp_path / 'data')
    flat = tmp_path / 'flat'
    for kind, name in (('img_dir', 'images'), ('ann_dir', 'masks')):
        shutil.copytree(tmp_path / 'data' / kind / 'train', flat / name)
    shutil.copy(tmp_path / 'data' / 'CLASSES.txt', flat)
    seen, _ = look(flat)
    assert [(part.name, len(part.images)) for part in seen.parts] == [('all', 3)]


def test_folders_of_another_layout_are_no_classes(tmp_path, look):
    noise(tmp_path / 'data' / 'images' / 'a.jpg', 0)
    (tmp_path / 'data' / 'annotations').mkdir()
    with pytest.raises(UserError, match='holds no known layout'):
        look(tmp_path / 'data')


# --- what is odd
def test_classes_that_are_absent_or_nearly_so_are_named(tmp_path, look):
    write_coco(tmp_path / 'data', annotations(('cat', 'dog', 'owl'), images=30), annotations(('cat', 'dog', 'owl'), 1))
    found = annotations(('cat', 'dog', 'owl'), images=30)
    for one in found['annotations']:
        one['category_id'] = 10 + (one['id'] == 1)
    (tmp_path / 'data' / 'annotations' / 'train.json').write_text(json.dumps(found))
    lines = texts(look(tmp_path / 'data'))
    assert 'WARNING: train: no box of owl, which cannot be learned' in lines
    assert 'val: no box of dog, owl, which val does not measure' in lines
    assert 'train: fewer than 10 images with dog' in lines


def test_a_class_with_few_pixels_is_named(tmp_path, look):
    write_masks(tmp_path / 'data')
    for path in (tmp_path / 'data' / 'ann_dir' / 'train').iterdir():
        labels = np.zeros((12, 16), np.uint8)
        labels[0, 0], labels[1:3] = 2, 1
        Image.fromarray(labels).save(path)
    lines = texts(look(tmp_path / 'data'))
    assert 'train: below 1% of the pixels each: car' in lines


def test_small_boxes_are_counted_by_the_input(tmp_path, look):
    # of 10x8 in images of 32x24, as large as 3.2 by 3.3 of ten parts of a side
    write_coco(tmp_path / 'data')
    _, figures = look(tmp_path / 'data')
    size = 256 * (80 / (32 * 24)) ** 0.5
    assert figures.all_boxes.below(256, size - 1) == 0
    assert figures.all_boxes.below(256, size + 1) == 1


def test_images_that_are_there_twice_are_found_within_a_split_and_across(tmp_path, look):
    root = tmp_path / 'data'
    for index in range(6):
        noise(root / 'train' / 'cat' / f'{index}.jpg', index)
        noise(root / 'train' / 'dog' / f'{index}.jpg', 10 + index)
        noise(root / 'val' / 'cat' / f'{index}.jpg', 20 + index)
        noise(root / 'val' / 'dog' / f'{index}.jpg', 30 + index)
    assert not pairs_of(look(root)[0])
    shutil.copy(root / 'train' / 'cat' / '0.jpg', root / 'val' / 'dog' / 'copy.jpg')
    noise(root / 'val' / 'cat' / 'smaller.jpg', 1, (40, 30), quality=60)
    shutil.copy(root / 'train' / 'dog' / '3.jpg', root / 'train' / 'dog' / 'copy.jpg')
    lines = texts(look(root))
    assert lines[:3] == [
        'WARNING: 1 image of val (7.1%) is also in train, byte for byte, so val measures in part what was learned by '
        'heart; keep each in one of the two only: val/dog/copy.jpg = train/cat/0.jpg',
        'WARNING: 1 image of val (7.1%) looks the same as an image of train; copies and frames of one scene should be '
        'in one split only: val/cat/smaller.jpg = train/cat/1.jpg',
        'WARNING: 1 pair of identical images have two different classes: train/cat/0.jpg = val/dog/copy.jpg',
    ]
    assert any(
        line.startswith('train: 2 images (15.4%) have an exact copy: train/dog/3.jpg = train/dog/copy.jpg')
        for line in lines
    )


def test_plain_pictures_do_not_look_the_same(tmp_path, look):
    for index, name in enumerate(('black', 'white', 'red', 'blue')):
        path = tmp_path / 'data' / 'train' / ('cat' if index < 2 else 'dog') / f'{name}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (20, 20), name).save(path)
    assert not pairs_of(look(tmp_path / 'data')[0])


def test_a_turned_copy_looks_the_same_and_turned_images_are_counted(tmp_path, look):
    exif = Image.Exif()
    exif[0x0112] = 6
    noise(tmp_path / 'data' / 'train' / 'cat' / 'a.jpg', 1)
    noise(tmp_path / 'data' / 'train' / 'dog' / 'b.jpg', 2)
    lying = noise(tmp_path / 'data' / 'train' / 'cat' / 'c.jpg', 1).transpose(Image.Transpose.ROTATE_90)
    lying.save(tmp_path / 'data' / 'train' / 'cat' / 'c.jpg', exif=exif)
    seen, figures = look(tmp_path / 'data')
    assert figures.sizes.turned == 1
    assert figures.sizes.frequent == (((64, 48), 3),)
    assert [pairs.images for pairs in pairs_of(seen)] == [2]


def test_damaged_images_are_told_and_nothing_stops_at_them(tmp_path, show):
    root = tmp_path / 'data'
    for label, name in enumerate(('cat', 'dog')):
        for index in range(6):
            noise(root / 'train' / name / f'{index}.jpg', 10 * label + index)
    cat = root / 'train' / 'cat'
    (cat / '0.jpg').write_bytes((cat / '0.jpg').read_bytes()[:200])
    (cat / '1.jpg').write_bytes(b'')
    (cat / '2.jpg').write_text('no image')
    before = content_of(root)
    numbers = show(root)
    assert content_of(root) == before
    assert {fault['file'] for fault in numbers['splits']['train']['faults']} == {
        f'train/cat/{index}.jpg' for index in range(3)
    }
    assert numbers['splits']['train']['sound'] == 9
    assert numbers['splits']['train']['classes']['cat'] == {'images': 3, 'labels': 3, 'share': pytest.approx(1 / 3)}
    assert any('3 faults, at which a training stops, or with --bad-data skip' in line for line in numbers['printed'])
    assert '<p class="alert">WARNING: train: 3 faults' in numbers['page']


@pytest.mark.skipif(sys.platform != 'linux', reason='other systems have no such names')
def test_names_of_files_that_are_no_text_are_shown(tmp_path, show):
    for label, name in enumerate((b'cat', b'd\xffog')):
        folder = Path(os.fsdecode(os.fsencode(tmp_path / 'data' / 'train') + b'/' + name))
        for index in range(2):
            noise(folder / os.fsdecode(b'\xfe%d.jpg' % index), 10 * label + index)
    numbers = show(tmp_path / 'data')
    assert numbers['images'] == 4
    assert 'd\\udcffog' in numbers['page']


def test_masks_that_cannot_be_read_are_told(tmp_path, look):
    write_masks(tmp_path / 'data')
    (tmp_path / 'data' / 'ann_dir' / 'train' / 'scene1.png').write_text('no mask')
    Image.new('L', (5, 5)).save(tmp_path / 'data' / 'ann_dir' / 'val' / 'scene0.png')
    seen, figures = look(tmp_path / 'data')
    assert [int(part.sound.sum()) for part in seen.parts] == [2, 2]
    assert figures.classes['train'].images.tolist() == [2, 2, 2]


def test_what_a_training_cannot_learn_from_is_told(tmp_path, look):
    write_masks(tmp_path / 'data')
    for path in (tmp_path / 'data' / 'ann_dir' / 'val').iterdir():
        Image.new('L', (16, 12), 255).save(path)
    assert any(line.startswith('WARNING: val: a training stops at this') for line in texts(look(tmp_path / 'data')))


def test_classes_that_only_a_config_knows_are_shown_by_their_labels(tmp_path, show):
    write_masks(tmp_path / 'data')
    (tmp_path / 'data' / 'CLASSES.txt').unlink()
    numbers = show(tmp_path / 'data')
    assert any('the class names are not known' in line for line in numbers['printed'])
    assert '<td class="words">label 2</td>' in numbers['page']
    assert 'label 3<' not in numbers['page']


# --- which images
def test_every_class_appears_on_a_sheet_as_far_as_there_is_room():
    labels = [{0}] * 50 + [{0, 1}] + [{0}] * 30 + [{2}, set(), {3, 2}]
    chosen = choose(labels, 5)
    assert len(chosen) == 5
    assert set().union(*(labels[index] for index in chosen)) == {0, 1, 2, 3}
    assert choose(labels, 100) == list(range(len(labels)))
    assert len(choose([{index} for index in range(10)], 4)) == 4


# --- what is written
def test_a_page_its_sheets_and_its_numbers_are_written(tmp_path, show):
    names = ('cat', '<b>dog</b>', '猫 $x$')
    write_coco(tmp_path / 'data', annotations(names, images=12), annotations(names, images=2))
    numbers = show(tmp_path / 'data', '--images', '4')
    out = tmp_path / 'report'
    assert {path.name for path in out.iterdir()} == {
        'index.html', 'statistics.json', 'truth_train.png', 'truth_val.png',
    }  # fmt: skip
    assert Image.open(out / 'truth_train.png').width > 600
    assert (numbers['images'], numbers['boxes']) == (14, 14)
    assert numbers['splits']['train']['on_the_sheet'] == 4
    assert numbers['printed'][-1] == (
        f'written: {out / "index.html"}, with statistics.json and 2 sheets of the truth beside it'
    )
    page = numbers['page']
    assert '猫 $x$' in page
    assert '<b>dog' not in page
    assert '<script' not in page
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert all(one.startswith(('data:image/', '#')) for one in addresses)
    assert page.count('data:image/jpeg') == 3  # two sheets, and images that are there twice


def test_a_folder_of_an_earlier_run_is_written_again(tmp_path, show):
    write_folders(tmp_path / 'data', splits=('train', 'val', 'test'))
    show(tmp_path / 'data')
    shutil.rmtree(tmp_path / 'data' / 'test')
    show(tmp_path / 'data')
    assert sorted(path.name for path in (tmp_path / 'report').glob('*.png')) == ['truth_train.png', 'truth_val.png']


@pytest.mark.parametrize(
    ('out', 'message'),
    [('other', 'is not empty, and not of this command'), ('data/report', 'lies in the data set')],
)
def test_folders_of_others_stay_as_they_are(out, message, tmp_path, run_cli):
    write_folders(tmp_path / 'data')
    (tmp_path / 'other').mkdir()
    (tmp_path / 'other' / 'statistics.json').write_text('[]')
    done = run_cli('data', 'show', tmp_path / 'data', '--out', tmp_path / out)
    assert (done.code, done.err.count('\n')) == (1, 1)
    assert message in done.err
    assert (tmp_path / 'other' / 'statistics.json').read_text() == '[]'


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (('nowhere',), 'nowhere: no such folder'),
        (('data', '--images', '0'), '--images 0'),
        (('data', '--no-groups'), '--split-seed and --no-groups say how --split divides'),
        (('data', '--layout', 'nothing'), 'there is no such layout'),
    ],
)
def test_wrong_words_are_one_line(words, message, tmp_path, run_cli, monkeypatch):
    write_folders(tmp_path / 'data')
    monkeypatch.chdir(tmp_path)
    done = run_cli('data', 'show', *words)
    assert (done.code, done.err.count('\n')) == (1, 1)
    assert message in done.err
    assert not (tmp_path / 'data_report').exists()


def test_ctrl_c_leaves_no_half_page(tmp_path, run_cli, monkeypatch):
    write_folders(tmp_path / 'data')

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, 'write_page', stop)
    done = run_cli('data', 'show', tmp_path / 'data', '--out', tmp_path / 'report')
    assert (done.code, done.err) == (130, 'interrupted\n')
    assert not list((tmp_path / 'report').glob('*.html'))
    monkeypatch.undo()
    assert run_cli('data', 'show', tmp_path / 'data', '--out', tmp_path / 'report').code == 0


# --- real photographs
def test_real_copies_are_told_from_real_photographs_of_like_things():
    root = Path(str(shared('trashnet').data_root))
    copies = ['train/glass/glass389.jpg', 'val/plastic/plastic332.jpg']  # the same file, with two classes
    scenes = ['train/paper/paper390.jpg', 'val/paper/paper185.jpg']  # photographed twice
    others = [path for folder in sorted((root / 'val').iterdir()) for path in sorted(folder.iterdir())[:15]]
    known = [root / name for name in (*copies, *scenes)]
    paths = [*known, *(path for path in others if path not in known)]
    twins = find_twins([facts_of(path) for path in paths], np.zeros(len(paths), np.int64), 1)
    assert twins.pairs(0, 0, np.zeros(len(paths), np.int64), identical=True) == [(0, 1), (1, 0)]
    assert twins.pairs(0, 0, np.zeros(len(paths), np.int64), identical=False) == [(2, 3), (3, 2)]


def test_photographs_of_blood_cells_are_all_different(look):
    seen, figures = look(Path(str(shared('bccd').data_root)))
    assert not pairs_of(seen)
    assert {name: int(of.labels.sum()) for name, of in figures.classes.items()} == {
        'train': 2804, 'val': 1137, 'test': 945,
    }  # fmt: skip
