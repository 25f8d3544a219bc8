"""Before a model is built: is the data set that a config points at there, and does it fit the config?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emo_mm.config.parts import (
    counting_parts,
    dataset_classes,
    image_prefixes,
    path_in,
    split_datasets,
    task_scope,
    type_name,
)
from emo_mm.data.layouts import coco, folders, masks
from emo_mm.data.splits import count, shortlist
from emo_mm.errors import UserError

if TYPE_CHECKING:
    from mmengine.config import Config

# Where the published data sets are had; their terms forbid us to pass them on.
HOW_TO_GET = {
    'CocoDataset': 'COCO 2017: train2017.zip, val2017.zip and annotations_trainval2017.zip from '
    'https://cocodataset.org/#download, unpacked in that folder.',
    'ADE20KDataset': 'ADE20K for scene parsing: ADEChallengeData2016.zip from http://sceneparsing.csail.mit.edu/, '
    'unpacked so that images/ and annotations/ lie in that folder.',
    'ImageNet': 'ImageNet-1K: ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar from '
    'https://image-net.org/challenges/LSVRC/2012/ (free account), the images of both in one folder per class.',
}


def training_splits(training: bool) -> tuple[str, ...]:
    """The splits that a run reads: training also validates, testing reads the test split only."""
    return ('train', 'val') if training else ('test',)


def check_data(cfg: Config, training: bool = True, tolerant: bool = False) -> list[str]:
    """Checks that the data sets of a config exist and fit it.

    Args:
        cfg: The whole config.
        training: Check what training reads (train, val), else what testing reads (test).
        tolerant: Whether faults of single images and annotations are left to ``content_check``.

    Returns:
        Lines to print: counts of what was found.

    Raises:
        UserError: Something is missing or does not fit. Where the data set is not there at all the message shows the
            tree that is expected and tells how to get it.
    """
    scope = task_scope(cfg)
    lines = []
    for split in training_splits(training):
        for dataset in split_datasets(cfg, split):
            lines += _CHECKS[scope](cfg, split, dataset, tolerant)
            _check_heads(cfg, dataset_classes(dataset, scope))
    return lines


def _check_coco(cfg: Config, split: str, dataset: dict[str, Any], tolerant: bool) -> list[str]:
    if 'Coco' not in type_name(dataset) or not dataset.get('ann_file'):
        return [f'{split}: {type_name(dataset)} is not checked; only COCO format is']
    path = path_in(dataset, dataset['ann_file'])
    image_dir = path_in(dataset, dataset.get('data_prefix', {}).get('img', ''))
    for needed in (path, image_dir):
        if not needed.exists():
            raise missing_data(cfg, needed)
    file = coco.read_annotations(path, tolerant)
    classes = dataset_classes(dataset, 'mmdet') or ()
    if tuple(name for name in file.classes if name in classes) != classes:
        raise UserError(
            f'{path}: has the classes {shortlist(file.classes)}, but the config wants exactly {shortlist(classes)}, in '
            'that order (mmdet would shift the labels); with --data-root DIR the classes are read from the file'
        )
    present = coco.require_images(file, image_dir, f'--{split}-images', tolerant)
    boxes = coco.count_boxes(file, classes, required=split != 'test')
    notes = [f'  note: {note}' for note in coco.oddities(file, classes)]
    dropped = images_left_out(cfg, dataset, dataset['ann_file'], file, classes) if split == 'train' else []
    return [coco.summary(split, dataset['ann_file'], present, len(file.images), boxes, classes), *notes, *dropped]


def images_left_out(
    cfg: Config, dataset: dict[str, Any], ann_file: str, file: coco.CocoFile, classes: Sequence[str]
) -> list[str]:
    """Return lines on the training images that mmdet's ``filter_cfg`` leaves out without a word.

    Args:
        cfg: The whole config.
        dataset: The part of it that reads the file, without wrappers.
        ann_file: The annotation file, as it is called in messages.
        file: What it holds.
        classes: The classes to train.

    Raises:
        UserError: If no image is left.
    """
    how = dataset.get('filter_cfg')
    if not isinstance(how, dict):
        return []
    least, number = how.get('min_size', 0), count(len(file.images), 'image')
    if not coco.is_number(least):
        raise UserError(f'filter_cfg.min_size of the training data is {least!r}; it must be a number of pixels')
    small = {index for index, size in enumerate(file.sizes) if all(map(coco.is_number, size)) and min(size) < least}
    empty = set()
    if how.get('filter_empty_gt'):
        empty = {index for index, names in enumerate(file.listed) if names.isdisjoint(classes)} - small
    lines = []
    if small:
        keep = _setting(cfg, 'filter_cfg.min_size=1')
        lines.append(f'train: {len(small)} of {number} left out: less than {least} pixels wide or high{keep}')
    if empty:
        keep = _setting(cfg, 'filter_cfg.filter_empty_gt=False')
        lines.append(f'train: {len(empty)} of {number} left out: no box of the classes{keep}')
    if len(small | empty) == len(file.images):
        raise UserError(f'{ann_file}: no image is left to train on; ' + '; '.join(lines))
    return lines


def _setting(cfg: Config, change: str) -> str:
    """Return how a setting of the training data is changed so that images stay; nothing where they are several."""
    place, node = 'train_dataloader.dataset', cfg.train_dataloader.dataset
    while 'dataset' in node:  # a wrapper such as RepeatDataset
        place, node = f'{place}.dataset', node['dataset']
    return '' if 'datasets' in node else f'; --cfg-options {place}.{change} keeps them'


def _check_masks(cfg: Config, split: str, dataset: dict[str, Any], tolerant: bool) -> list[str]:
    prefix = dataset.get('data_prefix', {})
    image_dir, mask_dir = (path_in(dataset, prefix.get(key) or '') for key in ('img_path', 'seg_map_path'))
    for folder in (image_dir, mask_dir):
        if not folder.is_dir():
            raise missing_data(cfg, folder)
    classes = dataset_classes(dataset, 'mmseg')
    if dataset.get('ann_file') or not classes:
        return [f'{split}: {image_dir}: labels are not checked (names listed in a file, or no classes declared)']
    pairs = masks.pair_up(image_dir, mask_dir)
    suffixes = dataset.get('img_suffix', '.jpg'), dataset.get('seg_map_suffix', '.png')
    if not (pairs.image_suffix.endswith(suffixes[0]) and pairs.mask_suffix.endswith(suffixes[1])):
        raise UserError(
            f'{image_dir}: names end in {pairs.image_suffix} and {pairs.mask_suffix}, but the config reads '
            f'{suffixes[0]} and {suffixes[1]}; give the data set with --data-root DIR --classes FILE'
        )
    checked = 0 if tolerant else masks.check_labels(pairs, labels_in_masks(dataset, classes))
    return [masks.summary(split, image_dir.as_posix(), pairs, checked)]


def labels_in_masks(dataset: dict[str, Any], classes: Sequence[str]) -> int:
    """The number of labels that masks may hold: one more than there are classes where 0 becomes ignored."""
    return len(classes) + bool(dataset.get('reduce_zero_label', type_name(dataset) == 'ADE20KDataset'))


def _check_folders(cfg: Config, split: str, dataset: dict[str, Any], tolerant: bool) -> list[str]:
    folder = path_in(dataset, image_prefixes(dataset)[0])
    if not folder.is_dir():
        raise missing_data(cfg, folder)
    listed = path_in(dataset, dataset.get('ann_file') or f'meta/{dataset.get("split")}.txt')
    if listed.is_file():  # mmpretrain reads the labels from such a list instead of from folder names
        return [f'{split}: {folder}: labels are read from {listed}, which is not checked']
    images = folders.count_images(folder)
    classes = dataset_classes(dataset, 'mmpretrain')
    if classes and len(images) != len(classes):
        raise UserError(
            f'{folder}: has {len(images)} class folders but the config has {len(classes)} classes; with --data-root '
            'DIR the classes are read from the folders'
        )
    return [folders.summary(split, folder.as_posix(), images)]


_CHECKS: dict[str, Callable[[Any, str, dict[str, Any], bool], list[str]]] = {
    'mmdet': _check_coco,
    'mmseg': _check_masks,
    'mmpretrain': _check_folders,
}


def _check_heads(cfg: Config, classes: Sequence[str] | None) -> None:
    if not classes:
        return
    for part in counting_parts(cfg):
        if part['num_classes'] != len(classes):
            raise UserError(
                f'{cfg.filename or "config"}: {type_name(part) or "a part"} has num_classes={part["num_classes"]} but '
                f'the data set has {len(classes)} classes; with --data-root DIR they are set alike'
            )


def missing_data(cfg: Config, missing: Path) -> UserError:
    """The error for a data set that is not there: what was looked for, the tree expected, how to get it."""
    paths: dict[str, list[str]] = {}
    kinds = []
    for split in ('train', 'val', 'test'):
        for dataset in split_datasets(cfg, split):
            own = (dataset.get('metainfo') or {}).get('classes')
            kinds += [] if own else [type_name(dataset)]
            paths.setdefault(dataset.get('data_root') or '.', []).extend(_expected(dataset))
    text = [f'{missing}: does not exist, so the data set of this config is not (all) there. Expected:']
    for root, below in paths.items():
        text += [f'  {root.rstrip("/")}/', *_tree(below)]
    text += [HOW_TO_GET[kind] for kind in dict.fromkeys(kinds) if kind in HOW_TO_GET]
    text.append('A data set that lies elsewhere, or one of your own, is given with --data-root DIR.')
    text.append('Nothing need be downloaded for `make demo`, which makes its own data set and trains on it.')
    return UserError('\n'.join(text))


def _expected(dataset: dict[str, Any]) -> list[str]:
    """The paths below its root that a data set reads; folders end in a slash."""
    found = [f'{folder.rstrip("/")}/' for folder in image_prefixes(dataset) if folder]
    if type_name(dataset) in ('ImageNet', 'CustomDataset') and not dataset.get('ann_file'):
        found = [f'{folder}<class>/<image>' for folder in found]
    return [dataset['ann_file'], *found] if dataset.get('ann_file') else found


def _tree(paths: Sequence[str], indent: str = '    ') -> list[str]:
    """Draws paths as an indented tree, each folder once and with a slash."""
    lines = []
    for head in dict.fromkeys(path.split('/', 1)[0] for path in sorted(paths)):
        below = [path.split('/', 1)[1] for path in paths if path.startswith(f'{head}/')]
        lines.append(f'{indent}{head}{"/" if below else ""}')
        lines += _tree([path for path in dict.fromkeys(below) if path], f'{indent}  ')
    return lines
