"""Lets a config read its data without the faulty parts. The data themselves stay as they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emo_mm.config.parts import parts, path_in, task_scope
from emo_mm.data.faults import Content
from emo_mm.data.layouts.coco import parse_annotations
from emo_mm.data.splits import count
from emo_mm.errors import UserError
from emo_mm.files import atomic_write

if TYPE_CHECKING:
    from mmengine.config import Config


def leave_out(cfg: Config, split: str, dataset: dict[str, Any], content: Content, target: Path) -> list[str]:
    """Change a data set of a config, and its evaluator, to one without what is at fault.

    Args:
        cfg: The whole config.
        split: The split that the data set belongs to.
        dataset: The part of the config.
        content: What the check found.
        target: File to write the list of what is left to, without its ending.

    Returns:
        Lines to print.

    Raises:
        UserError: No image is left.
    """
    drops: dict[str, set[int]] = {name: set() for name in content.items}
    for fault in content.faults:
        if fault.drop is not None:
            drops[fault.drop[0]].add(fault.drop[1])
    if len(drops['images']) == content.items['images']:
        raise UserError(f'{split}: no image is left without the faulty ones; see the list of faults')
    if task_scope(cfg) == 'mmdet':
        path = target.with_name(f'{target.name}.json')
        left_out = _write_coco(path_in(dataset, dataset['ann_file']), drops, path)
        for metric in parts(cfg.get(f'{split}_evaluator')):
            if metric.get('ann_file') and Path(metric['ann_file']) == path_in(dataset, dataset['ann_file']):
                metric['ann_file'] = path.absolute().as_posix()
    else:
        path = target.with_name(f'{target.name}.txt')
        kept = [name for index, name in enumerate(content.names) if index not in drops['images']]
        _write(path, '\n'.join([*kept, '']))
        left_out = count(len(drops['images']), 'image')
    dataset['ann_file'] = path.absolute().as_posix()
    return [f'{split}: {left_out} left out; what is left is listed in {path}']


def _write_coco(source: Path, drops: dict[str, set[int]], target: Path) -> str:
    """Write an annotation file without some images and boxes; return how many were left out, in words."""
    content = parse_annotations(source)
    images = [image for index, image in enumerate(content['images']) if index not in drops['images']]
    kept = {image['id'] for image in images}
    boxes = [
        box
        for index, box in enumerate(content.get('annotations', []))
        if index not in drops['annotations'] and box['image_id'] in kept
    ]
    before = len(content.get('annotations', []))
    if 'annotations' in content:
        content['annotations'] = boxes
    content['images'] = images
    _write(target, json.dumps(content))
    return f'{count(len(drops["images"]), "image")} and {count(before - len(boxes), "box", "boxes")}'


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all: the processes of a distributed run write the same one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, durable=False) as file:
        file.write(text.encode())
