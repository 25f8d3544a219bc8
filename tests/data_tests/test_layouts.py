"""Layouts of data: a new one is one file and one row, and the doctor takes what a training or a test takes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data_trees import annotations, shared, write_coco, write_folders, write_mask, write_masks, write_pairs, write_split
from PIL import Image
from planning import check_data, load_run_config

from emo_mm import doctor
from emo_mm.data import layouts
from emo_mm.data.layouts import LAYOUTS, Row, layout_of_folder
from emo_mm.data.splits import DataRequest
from emo_mm.engine.options import RunOptions, TrainOptions
from emo_mm.errors import UserError
from emo_mm.tasks import TASKS

pytestmark = pytest.mark.toolbox


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('EMO_MM_CACHE', str(tmp_path / 'cache'))


# --- a layout that is added
@pytest.fixture
def _with_toys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layouts, 'LAYOUTS', (*LAYOUTS, Row(('cls',), 'toy_layout:TOY')))


def write_toys(root: Path) -> None:
    (root / 'toys').mkdir(parents=True)
    for split, labels in (('train', ('ball', 'kite', 'ball')), ('val', ('kite', 'ball'))):
        rows = []
        for index, label in enumerate(labels):
            Image.new('RGB', (8, 8)).save(root / 'toys' / f'{split}{index}.png')
            rows.append(f'toys/{split}{index}.png,{label}\n')
        (root / f'toy_{split}.csv').write_text(''.join(rows))


def toy_run(root: Path, **more: str) -> TrainOptions:
    return TrainOptions('emo_1m_demo', work_dir=str(root.parent / 'run'), data=DataRequest(data_root=str(root)), **more)


@pytest.mark.usefixtures('_with_toys')
def test_a_layout_is_added_by_one_file_and_one_row(tmp_path: Path) -> None:
    root = tmp_path / 'data'
    write_toys(root)
    cfg, lines = load_run_config(toy_run(root), training=True)
    assert lines[:2] == ['train: toy_train.csv: 3 toys', 'val: toy_val.csv: 2 toys']
    assert any(line.startswith('quick check of 5 images') and line.endswith('no fault') for line in lines)
    dataset = cfg.train_dataloader.dataset
    assert (dataset.type, dataset.ann_file, tuple(dataset.metainfo.classes)) == (
        'ToyDataset',
        'toy_train.csv',
        ('ball', 'kite'),
    )
    assert cfg.model.head.num_classes == 2
    assert check_data(cfg) == lines[:2]
    assert [(check.name, check.ok, check.detail) for check in doctor.check_data(root)] == [
        ('train', True, '3 toys'),
        ('val', True, '2 toys'),
    ]


@pytest.mark.usefixtures('_with_toys')
def test_the_faults_of_an_added_layout_are_named_left_out_and_shown(tmp_path: Path) -> None:
    root = tmp_path / 'data'
    write_toys(root)
    (root / 'toys' / 'train1.png').write_bytes(b'')
    with pytest.raises(UserError, match=r'train  empty file .*train1\.png'):
        load_run_config(toy_run(root), training=True)
    cfg, _ = load_run_config(toy_run(root, bad_data='skip'), training=True)
    left = Path(cfg.train_dataloader.dataset.ann_file).read_text().split()
    assert left == ['toys/train0.png,ball', 'toys/train2.png,ball']
    train, val = doctor.check_data(root)
    assert (train.ok, val.ok) == (False, True)
    assert 'train1.png' in train.detail
    assert '--bad-data skip' in train.fix
    (root / 'toy_train.csv').unlink()
    with pytest.raises(UserError, match=r'no toy_train\.csv'):
        load_run_config(toy_run(root), training=True)
    cfg.train_dataloader.dataset.ann_file = str(root / 'gone.csv')
    with pytest.raises(UserError, match=r'gone\.csv: does not exist'):
        check_data(cfg)


# --- which layout a folder has
@pytest.mark.usefixtures('_with_toys')
def test_a_folder_that_no_layout_of_the_task_recognises_is_told_which_there_are(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'no known layout; known are class folders \(.*\), toy tables \(toy_train.csv'):
        layout_of_folder(DataRequest(data_root=str(tmp_path)), TASKS['cls'])
    (check,) = doctor.check_data(tmp_path)
    assert not check.ok
    for known in ('COCO annotation files', 'images with masks', 'class folders', 'toy tables'):
        assert known in check.detail


@pytest.mark.usefixtures('_with_toys')
def test_a_folder_that_two_layouts_of_the_task_recognise_is_not_guessed_at(tmp_path: Path) -> None:
    write_toys(tmp_path)
    write_folders(tmp_path)
    with pytest.raises(UserError, match=r'may be any of class folders \(.*\), toy tables'):
        load_run_config(toy_run(tmp_path), training=True)
    (check,) = doctor.check_data(tmp_path)
    assert 'may be any of class folders' in check.detail


def test_folders_named_like_those_of_masks_are_not_taken_for_them_without_masks(tmp_path: Path) -> None:
    for split in ('train', 'val'):
        for folder in ('images', 'labels'):
            (tmp_path / folder / split).mkdir(parents=True)
        Image.new('RGB', (8, 8)).save(tmp_path / 'images' / split / 'a.png')
        (tmp_path / 'labels' / split / 'a.txt').write_text('0 0.5 0.5 0.2 0.2\n')
    checks = doctor.check_data(tmp_path)  # which takes them for YOLO's
    assert [check.name for check in checks] == ['train', 'val']
    assert all('the class names are not known' in check.detail for check in checks)


# --- the doctor and a run
CONFIGS = {'det': 'ssdlite_emo_1m_demo', 'seg': 'deeplabv3_emo_1m_demo', 'cls': 'emo_1m_demo'}
Tree = Callable[[Path], object]


def coco(ann_file: str = 'annotations/{}.json', image_dir: str = 'images', splits: tuple[str, ...] = ('train', 'val')):
    def write(root: Path) -> None:
        for split in splits:
            write_split(root / ann_file.format(split), root / image_dir.format(split), annotations())

    return write


def harmed_coco(harm: Callable[[dict], object]) -> Tree:
    def write(root: Path) -> None:
        content = annotations()
        harm(content)
        write_coco(root, train=content)

    return write


def of_boxes(**values: object) -> Tree:
    """A change of the first box of the training split."""
    return harmed_coco(lambda content: content['annotations'][0].update(values))


def then(write: Tree, harm: Tree) -> Tree:
    """A tree, and what is done to it."""

    def both(root: Path) -> None:
        write(root)
        harm(root)

    return both


def emptied(path: str) -> Tree:
    return lambda root: (root / path).write_bytes(b'')


def removed(path: str) -> Tree:
    return lambda root: shutil.rmtree(root / path) if (root / path).is_dir() else (root / path).unlink()


def labelled(value: int, names: str = 'sky\nroad\ncar\n') -> Tree:
    """Masks with a label at one pixel of the first."""

    def write(root: Path) -> None:
        write_masks(root, names)
        labels = np.arange(16 * 12).reshape(12, 16) % 2
        labels[3, 3] = value
        write_mask(root / 'ann_dir' / 'train' / 'scene0.png', labels)

    return write


def mask_tree(images: str, masks: str, names: bool = True) -> Tree:
    def write(root: Path) -> None:
        for split in ('train', 'val'):
            write_pairs(root / images.format(split), root / masks.format(split))
        if names:
            (root / 'CLASSES.txt').write_text('sky\nroad\ncar\n')

    return write


def coloured_masks(root: Path) -> None:
    """Masks with palettes, where the training split holds two labels and the other three."""
    mask_tree('img_dir/{}', 'ann_dir/{}', names=False)(root)
    for split, number in (('train', 2), ('val', 3)):
        for path in (root / 'ann_dir' / split).iterdir():
            labels = np.arange(16 * 12).reshape(12, 16) % number
            write_mask(path, labels, [0, 0, 0, 200, 10, 10, 10, 200, 10])


def flat_folders(root: Path) -> None:
    for split in ('train', 'val'):
        (root / split).mkdir(parents=True)
        Image.new('RGB', (8, 8)).save(root / split / '0.png')


# task, tree, whether a training takes it
TREES: dict[str, tuple[str, Tree, bool]] = {
    'coco': ('det', coco(), True),
    'coco, file in the folder of the split': ('det', coco('{}/annotations.json', '{}'), True),
    'coco, file in the folder of the split, images below': ('det', coco('{}/annotations.json', '{}/images'), True),
    'coco, as Roboflow has it': ('det', coco('{}/_annotations.coco.json', '{}'), True),
    'coco, named for the splits': ('det', coco('annotations/cells_{}.json', '{}'), True),
    'coco, three splits': ('det', coco(splits=('train', 'val', 'test')), True),
    'coco, no file for validation': ('det', coco(splits=('train',)), False),
    'coco, not named for a split': ('det', coco('annotations/cells.json', splits=('train',)), False),
    'coco, in the folder of the split by another name': ('det', coco('{}/result.json', '{}/images'), True),
    'coco, two files for a split': ('det', then(coco('{}_a.json'), coco('{}_b.json')), False),
    'coco, cut off': ('det', then(coco(), lambda root: (root / 'annotations/val.json').write_text('{"im')), False),
    'coco, image missing': ('det', then(coco(), removed('images/1.jpg')), False),
    'coco, image empty': ('det', then(coco(), emptied('images/1.jpg')), False),
    'coco, folder of images missing': ('det', then(coco(), removed('images')), False),
    'coco, no box': ('det', harmed_coco(lambda content: content.update(annotations=[])), False),
    'coco, box of no area': ('det', of_boxes(bbox=[4, 4, 0, 8]), False),
    'coco, box outside': ('det', of_boxes(bbox=[400, 4, 8, 8]), False),
    'coco, box beyond the border': ('det', of_boxes(bbox=[28, 4, 8, 8]), True),
    'coco, box of three numbers': ('det', of_boxes(bbox=[4, 4, 8]), False),
    'coco, box that is ignored': ('det', of_boxes(ignore=1), True),
    'coco, undeclared category': ('det', of_boxes(category_id=99), False),
    'coco, number as text': ('det', of_boxes(iscrowd='0'), True),
    'coco, annotation id twice': ('det', of_boxes(id=2), True),
    'coco, another size': ('det', harmed_coco(lambda content: content['images'][0].update(width=40)), False),
    'coco, another order of classes': ('det', harmed_coco(lambda content: content['categories'].reverse()), True),
    'masks': ('seg', write_masks, True),
    'masks, as ADE20K has them': ('seg', mask_tree('images/{}', 'annotations/{}'), True),
    'masks, split first': ('seg', mask_tree('{}/images', '{}/masks'), True),
    'masks, palettes that go together': (
        'seg',
        then(coloured_masks, lambda root: (root / 'CLASSES.txt').write_text('sky\nroad\ncar\n')),
        True,
    ),
    'masks, a label that only the validation has': ('seg', coloured_masks, False),
    'masks, undeclared label': ('seg', labelled(7), False),
    'masks, ignored label': ('seg', labelled(255), True),
    'masks, one class': ('seg', labelled(0, 'sky\n'), False),
    'masks, one missing': ('seg', then(write_masks, removed('ann_dir/train/scene1.png')), False),
    'masks, image empty': ('seg', then(write_masks, emptied('img_dir/val/scene1.jpg')), False),
    'masks, mask empty': ('seg', then(write_masks, emptied('ann_dir/val/scene1.png')), False),
    'masks, another size': (
        'seg',
        then(write_masks, lambda root: write_mask(root / 'ann_dir/train/scene1.png', np.zeros((5, 5)))),
        False,
    ),
    'masks, colours': (
        'seg',
        then(write_masks, lambda root: Image.new('RGB', (16, 12)).save(root / 'ann_dir/train/scene1.png')),
        False,
    ),
    'masks, no validation': ('seg', then(write_masks, removed('img_dir/val')), False),
    'masks, class file of two same names': ('seg', lambda root: write_masks(root, 'sky\nsky\n'), False),
    'folders': ('cls', write_folders, True),
    'folders, three splits': ('cls', lambda root: write_folders(root, splits=('train', 'valid', 'test')), True),
    'folders, no validation': ('cls', lambda root: write_folders(root, splits=('train',)), False),
    'folders, image empty': ('cls', then(write_folders, emptied('val/paper/1.png')), False),
    'folders, class without an image': ('cls', then(write_folders, removed('train/glass/0.png')), False),
    'folders, a class without images for validation': ('cls', then(write_folders, removed('val/glass')), True),
    'folders, a class that only the validation has': ('cls', then(write_folders, removed('train/glass')), False),
    'folders, hidden folder': ('cls', then(write_folders, lambda root: (root / 'train' / '.x').mkdir()), True),
    'folders, type that is not read': ('cls', then(write_folders, emptied('train/glass/x.webp')), True),
    'folders, images without a class': ('cls', flat_folders, False),
}  # fmt: skip


def accepts(run: Callable[[], object]) -> tuple[bool, str]:
    try:
        run()
    except UserError as error:
        return False, str(error)
    return True, ''


@pytest.mark.parametrize('name', TREES)
def test_the_doctor_and_training_accept_and_refuse_the_same_trees(tmp_path: Path, name: str) -> None:
    task, write, sound = TREES[name]
    root = tmp_path / 'data'
    write(root)
    run = TrainOptions(CONFIGS[task], work_dir=str(tmp_path / 'run'), data=DataRequest(data_root=str(root)))
    accepted, why = accepts(lambda: load_run_config(run, training=True))
    checks = doctor.check_data(root)
    assert accepted == sound, why
    assert all(check.ok for check in checks) == sound, checks
    assert all(check.fix for check in checks if not check.ok)


@pytest.mark.parametrize(
    ('task', 'write'),
    [
        ('det', coco(splits=('test',))),
        ('det', coco(splits=('val',))),
        ('seg', then(then(write_masks, removed('img_dir/train')), removed('ann_dir/train'))),
        ('cls', lambda root: write_folders(root, splits=('test',))),
    ],
)
def test_the_doctor_accepts_what_a_test_accepts_where_there_is_nothing_to_train_on(
    tmp_path: Path, task: str, write: Tree
) -> None:
    root = tmp_path / 'data'
    write(root)
    run = RunOptions(CONFIGS[task], work_dir=str(tmp_path / 'run'), data=DataRequest(data_root=str(root)))
    load_run_config(run, training=False)
    (check,) = doctor.check_data(root)
    assert check.ok, check


def test_the_doctor_leaves_class_names_and_lists_of_labels_to_the_config(tmp_path: Path) -> None:
    """As with ADE20K and ImageNet, whose configs know what the folder does not tell."""
    mask_tree('images/{}ing', 'annotations/{}ing', names=False)(tmp_path / 'ade')
    for kind in ('images', 'annotations'):
        (tmp_path / 'ade' / kind / 'valing').rename(tmp_path / 'ade' / kind / 'validation')
    data = DataRequest(data_root=str(tmp_path / 'ade'))
    load_run_config(TrainOptions('deeplabv3_emo_1m_ade20k', work_dir=str(tmp_path / 'run'), data=data), training=True)
    train, val = doctor.check_data(tmp_path / 'ade')
    assert (train.ok, val.ok) == (True, True)
    assert 'the class names are not known' in train.detail

    root = tmp_path / 'imagenet'
    write_folders(root)
    shutil.rmtree(root / 'val')
    (root / 'val').mkdir()
    Image.new('RGB', (8, 8)).save(root / 'val' / '0.png')
    (root / 'meta').mkdir()
    (root / 'meta' / 'val.txt').write_text('0.png 1\n')
    train, val = doctor.check_data(root)
    assert (train.ok, val.ok) == (True, True)
    assert 'a config that reads' in val.detail


def test_the_doctor_takes_the_published_boxes_of_coco_as_they_are(tmp_path: Path) -> None:
    root = Path(shared('coco_tiny').data_root or '')
    shutil.copytree(root, tmp_path / 'coco')
    path = tmp_path / 'coco' / 'annotations' / 'instances_train2017.json'
    content = json.loads(path.read_text())
    content['annotations'][0].update(bbox=[4, 4, 0, 8])
    path.write_text(json.dumps(content))
    data = DataRequest(data_root=str(tmp_path / 'coco'))
    load_run_config(TrainOptions('ssdlite_emo_1m_coco', work_dir=str(tmp_path / 'run'), data=data), training=True)
    train, _ = doctor.check_data(tmp_path / 'coco')
    assert train.ok, train
    assert 'box of no area' in train.detail
