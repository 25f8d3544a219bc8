"""Puts the user's own data into a config, for all three tasks, so that no file need be edited."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emo_mm.config.parts import (
    counting_parts,
    dataset_classes,
    image_prefixes,
    only_dataset,
    parts,
    path_in,
    task_scope,
    type_name,
)
from emo_mm.data.layouts import folders, masks
from emo_mm.data.layouts.coco import resolve_coco
from emo_mm.data.preflight import check_data, images_left_out
from emo_mm.data.splits import SPLITS, DataRequest, inside, shortlist
from emo_mm.errors import UserError
from emo_mm.runtime.colours import class_colours
from emo_mm.tasks import TASK_OF_SCOPE

if TYPE_CHECKING:
    from mmengine.config import Config

_WORDNET_ID = re.compile(r'n\d{8}')
_IMAGENET_CLASSES = 1000


def apply_data(cfg: Config, request: DataRequest, training: bool = True, tolerant: bool = False) -> list[str]:
    """Puts own data into a config: roots, files, classes, heads and evaluators follow from what the data hold.

    A tree that has the layout and the classes which the config expects only moves the root.

    Args:
        cfg: The whole config; changed in place.
        request: What the user gave.
        training: Prepare all splits (where there is no test split, val is tested on), else the test split only.
        tolerant: Whether faults of single images and annotations are left to ``content_check``.

    Returns:
        Lines to print: counts of matched images and labels, classes, and decisions taken.

    Raises:
        UserError: The data are missing or faulty, or the config's loaders join several data sets.
    """
    scope = task_scope(cfg)
    _separate(cfg)
    if 'data_root' in cfg:  # the name that configs give their root; the parts below no longer depend on it
        cfg['data_root'] = request.root.as_posix()
    return _APPLIERS[scope](cfg, request, training, tolerant)


def _separate(cfg: Config) -> None:
    """Gives each split parts of its own, as configs often write ``test_dataloader = val_dataloader``."""
    for name in [f'{split}_{part}' for split in SPLITS for part in ('dataloader', 'evaluator')]:
        if cfg.get(name) is not None:
            cfg[name] = copy.deepcopy(cfg[name])


def _replace(
    cfg: Config, splits: Sequence[str], training: bool, set_split: Callable[[str, dict[str, Any]], None]
) -> None:
    """Changes the data set of each loader; test takes val's data where there is no test split."""
    for split in SPLITS if training else ('test',):
        dataset = only_dataset(cfg, split)
        if dataset is not None:
            set_split(split if split in splits else 'val', dataset)


def _val_for_test(splits: Sequence[str]) -> list[str]:
    return [] if 'test' in splits else ['test: there is no test split, so the val split is tested on']


def _apply_coco(cfg: Config, request: DataRequest, training: bool, tolerant: bool) -> list[str]:
    found = resolve_coco(request, training, tolerant)
    root = found.root.as_posix()

    def set_split(split: str, dataset: dict[str, Any]) -> None:
        part = found.splits[split]
        if 'Coco' not in type_name(dataset):
            dataset['type'] = 'CocoDataset'
        dataset.update(data_root=root, ann_file=part.ann_file, data_prefix={'img': part.image_dir})
        if dataset_classes(dataset, 'mmdet') != found.classes:
            dataset['metainfo'] = {'classes': found.classes, 'palette': class_colours(len(found.classes))}

    _replace(cfg, list(found.splits), training, set_split)
    for split in ('val', 'test') if training else ('test',):
        part = found.splits[split if split in found.splits else 'val']
        for metric in parts(cfg.get(f'{split}_evaluator')):
            if 'ann_file' in metric or 'Coco' in type_name(metric):
                metric['ann_file'] = path_in({'data_root': root}, part.ann_file).as_posix()
    _set_num_classes(cfg, len(found.classes))
    dropped = []
    if training and (dataset := only_dataset(cfg, 'train')) is not None:
        train = found.splits['train']
        dropped = images_left_out(cfg, dataset, train.ann_file, train.file, found.classes)
    return found.lines() + dropped + _val_for_test(list(found.splits))


def _apply_masks(cfg: Config, request: DataRequest, training: bool, tolerant: bool) -> list[str]:
    if _keeps_layout(cfg, request, training) and masks.find_class_file(request.root) is None:
        lines = _move_root(cfg, request, training, tolerant)
        return [*lines, "the config's own classes are kept; for others give --classes FILE"]
    found = masks.resolve_masks(request, training, tolerant)

    def set_split(split: str, dataset: dict[str, Any]) -> None:
        pairs = found.splits[split]
        dataset.pop('ann_file', None)
        dataset.update(
            type='BaseSegDataset',
            data_root=found.root.as_posix(),
            data_prefix={
                'img_path': inside(found.root, pairs.image_dir),
                'seg_map_path': inside(found.root, pairs.mask_dir),
            },
            img_suffix=pairs.image_suffix,
            seg_map_suffix=pairs.mask_suffix,
            reduce_zero_label=False,
            metainfo={'classes': found.classes, 'palette': found.palette},
        )

    _replace(cfg, list(found.splits), training, set_split)
    # mmseg insists that loader and data set agree; the pipelines at the top level are those of its inferencer
    loaders = [cfg.get(f'{split}_dataloader') for split in SPLITS]
    for place in [*loaders, *(cfg.get(f'{name}_pipeline') for name in ('train', 'test', 'tta'))]:
        for part in parts(place):
            if type_name(part) == 'LoadAnnotations' and 'reduce_zero_label' in part:
                part['reduce_zero_label'] = False
    _set_num_classes(cfg, len(found.classes))
    return found.lines() + _val_for_test(list(found.splits))


def _apply_folders(cfg: Config, request: DataRequest, training: bool, tolerant: bool) -> list[str]:
    if _keeps_layout(cfg, request, training) and _is_imagenet(cfg, request.root, training):
        return _move_root(cfg, request, training, tolerant)
    found = folders.resolve_folders(request, training)

    def set_split(split: str, dataset: dict[str, Any]) -> None:
        for key in ('split', 'classes'):
            dataset.pop(key, None)
        dataset.update(
            type='CustomDataset',
            data_root=found.root.as_posix(),
            data_prefix=found.splits[split],
            ann_file='',
            with_label=True,
            metainfo={'classes': found.classes},
        )

    _replace(cfg, list(found.splits), training, set_split)
    _set_num_classes(cfg, len(found.classes))
    return found.lines() + _limit_topk(cfg, len(found.classes)) + _val_for_test(list(found.splits))


_APPLIERS: dict[str, Callable[[Any, DataRequest, bool, bool], list[str]]] = {
    'mmdet': _apply_coco,
    'mmseg': _apply_masks,
    'mmpretrain': _apply_folders,
}


def _set_num_classes(cfg: Config, number: int) -> None:
    found = counting_parts(cfg)
    if not found:
        raise UserError(
            f'{cfg.filename or "config"}: no part of the {TASK_OF_SCOPE[task_scope(cfg)].model} has num_classes, so it '
            f"cannot be set to the data set's {number} classes; write num_classes in its head"
        )
    for part in found:
        part['num_classes'] = number


def _limit_topk(cfg: Config, number: int) -> list[str]:
    """Drops top-k accuracies that say nothing, where k is not below the number of classes (top-1 always stays)."""
    dropped: set[int] = set()
    for place in [cfg.get('val_evaluator'), cfg.get('test_evaluator'), cfg.get('model')]:
        for part in parts(place):
            if isinstance(part.get('topk'), (tuple, list)):
                dropped |= {k for k in part['topk'] if k >= max(number, 2)}
                part['topk'] = tuple(k for k in part['topk'] if k < max(number, 2)) or (1,)
    return [f'top-{shortlist(sorted(dropped))} accuracy left out, there are {number} classes'] if dropped else []


def _keeps_layout(cfg: Config, request: DataRequest, training: bool) -> bool:
    """Whether the folders that the config reads are under the new root, and nothing but the root was given."""
    if not request.only_root:
        return False
    for split in ('train', 'val') if training else ('test',):
        dataset = only_dataset(cfg, split) or {}
        if dataset_classes(dataset, task_scope(cfg)) is None:
            return False
        if not all(folder and (request.root / folder).is_dir() for folder in image_prefixes(dataset)):
            return False
    return True


def _is_imagenet(cfg: Config, root: Path, training: bool) -> bool:
    """Whether the classes the config expects are those of the tree: the same names, or all of ImageNet's."""
    split = 'train' if training else 'test'
    dataset = only_dataset(cfg, split) or {}
    names = sorted(path.name for path in (root / image_prefixes(dataset)[0]).iterdir() if path.is_dir())
    if not names:  # flat folders with a list of labels in meta/, a layout of ImageNet too
        return (root / 'meta').is_dir()
    if type_name(dataset) == 'ImageNet':
        return len(names) == _IMAGENET_CLASSES and all(_WORDNET_ID.fullmatch(name) for name in names)
    return tuple(names) == dataset_classes(dataset, 'mmpretrain')


def _move_root(cfg: Config, request: DataRequest, training: bool, tolerant: bool) -> list[str]:
    for split in SPLITS if training else ('test',):
        dataset = only_dataset(cfg, split)
        if dataset is not None:
            dataset['data_root'] = request.root.as_posix()
    return check_data(cfg, training, tolerant)
