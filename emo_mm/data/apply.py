"""Puts the user's own data into a config, so that no file need be edited."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from emo_mm.config.parts import counting_parts, only_dataset, task_scope
from emo_mm.data.checks import check_data
from emo_mm.data.layouts import layout_of_folder
from emo_mm.data.layouts.base import Reading
from emo_mm.data.splits import SPLITS, DataRequest
from emo_mm.errors import UserError
from emo_mm.tasks import TASK_OF_SCOPE

if TYPE_CHECKING:
    from mmengine.config import Config


def apply_data(cfg: Config, request: DataRequest, training: bool = True, tolerant: bool = False) -> list[str]:
    """Put own data into a config: roots, files, classes, heads and evaluators follow from what the data hold.

    A tree that has the layout and the classes which the config expects only moves the root.

    Args:
        cfg: The whole config; changed in place.
        request: What the user gave.
        training: Prepare all splits (where there is no test split, val is tested on), else the test split only.
        tolerant: Whether faults of single images and annotations are left to ``check_content``.

    Returns:
        Lines to print: counts of matched images and labels, classes, and decisions taken.

    Raises:
        UserError: If the data are missing or faulty, or the config's loaders join several data sets.
    """
    scope = task_scope(cfg)
    _separate(cfg)
    if 'data_root' in cfg:  # the name that configs give their root; the parts below no longer depend on it
        cfg['data_root'] = request.root.as_posix()
    splits = SPLITS if training else ('test',)
    datasets = {split: dataset for split in splits if (dataset := only_dataset(cfg, split)) is not None}
    layout = layout_of_folder(request, TASK_OF_SCOPE[scope])
    kept = layout.kept(cfg, request, training)
    if kept is not None:
        for dataset in datasets.values():
            dataset['data_root'] = request.root.as_posix()
        return check_data(cfg, training, tolerant) + kept
    found = layout.resolve(request, training, tolerant)
    for split, dataset in datasets.items():
        layout.point(Reading(split, dataset, scope), found, found.split(split))
    _set_num_classes(cfg, len(found.classes))
    lines = found.lines() + layout.finish(cfg, found, training)
    return lines if 'test' in found.splits else [*lines, 'test: there is no test split, so the val split is tested on']


def _separate(cfg: Config) -> None:
    """Give each split parts of its own, as configs often write ``test_dataloader = val_dataloader``."""
    for name in [f'{split}_{part}' for split in SPLITS for part in ('dataloader', 'evaluator')]:
        if cfg.get(name) is not None:
            cfg[name] = copy.deepcopy(cfg[name])


def _set_num_classes(cfg: Config, number: int) -> None:
    found = counting_parts(cfg)
    if not found:
        raise UserError(
            f'{cfg.filename or "config"}: no part of the {TASK_OF_SCOPE[task_scope(cfg)].model} has num_classes, so it '
            f"cannot be set to the data set's {number} classes; write num_classes in its head"
        )
    for part in found:
        part['num_classes'] = number
