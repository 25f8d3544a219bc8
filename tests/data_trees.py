"""Small data sets of each kind, written for a test, and the real ones where they are present."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from emo_mm.data.splits import DataRequest

if TYPE_CHECKING:
    from mmengine.config import Config

SHARED = Path(__file__).parents[2] / 'shared' / 'data'


def shared(name: str) -> DataRequest:
    if not (SHARED / name).is_dir():
        pytest.skip(f'../shared/data/{name} is not there')
    return DataRequest(data_root=str(SHARED / name))


CLASSES = ('cat', 'dog')


def annotations(names: tuple[str, ...] = CLASSES, images: int = 3, prefix: str = '') -> dict[str, Any]:
    """One box per image, classes in turn; ids start at 1."""
    return {
        'images': [{'id': i + 1, 'file_name': f'{prefix}{i}.jpg', 'width': 32, 'height': 24} for i in range(images)],
        'categories': [{'id': 10 + i, 'name': name} for i, name in enumerate(names)],
        'annotations': [
            {
                'id': i + 1,
                'image_id': i + 1,
                'category_id': 10 + i % len(names),
                'bbox': [4, 4, 10, 8],
                'area': 80,
                'iscrowd': 0,
            }
            for i in range(images)
        ],
    }


def boxes_of_size(size: float, number: int = 40, image: int = 256, seed: int = 0) -> dict[str, Any]:
    """One box near a size, of any ratio up to 2, on each of some images."""
    generator = np.random.default_rng(seed)
    found = annotations(images=number)
    for one, picture in zip(found['annotations'], found['images'], strict=True):
        width, height = size * np.exp(generator.uniform(-0.3, 0.3, 2))
        left, top = generator.uniform(0, image - width), generator.uniform(0, image - height)
        one.update(bbox=[round(float(value), 1) for value in (left, top, width, height)], area=float(width * height))
        picture.update(width=image, height=image)
    return found


def write_split(ann_file: Path, image_dir: Path, content: dict[str, Any]) -> None:
    ann_file.parent.mkdir(parents=True, exist_ok=True)
    ann_file.write_text(json.dumps(content))
    for image in content['images']:
        path = image_dir / image['file_name']
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (32, 24), (90, 120, 40)).save(path)


def write_coco(root: Path, train: dict[str, Any] | None = None, val: dict[str, Any] | None = None) -> DataRequest:
    """``annotations/{train,val}.json`` with ``images/``."""
    write_split(root / 'annotations' / 'train.json', root / 'images', train or annotations())
    write_split(root / 'annotations' / 'val.json', root / 'images', val or annotations(images=2))
    return DataRequest(data_root=str(root))


MASK_SIZE = (16, 12)  # width, height


def write_mask(path: Path, labels: np.ndarray, colours: list[int] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(labels.astype(np.uint8))
    if colours is not None:
        image = image.convert('P')
        image.putdata(labels.ravel().tolist())
        image.putpalette(colours + [0] * (768 - len(colours)))  # a shorter one would make PNG cut labels to fewer bits
    image.save(path)


def write_pairs(
    images: Path, masks: Path, number: int = 3, classes: int = 3, endings: tuple[str, str] = ('.jpg', '.png')
) -> None:
    images.mkdir(parents=True, exist_ok=True)
    width, height = MASK_SIZE
    for index in range(number):
        Image.new('RGB', MASK_SIZE, (40, 90, 200)).save(images / f'scene{index}{endings[0]}')
        labels = np.arange(width * height).reshape(height, width) % classes
        labels[0, 0] = 255
        write_mask(masks / f'scene{index}{endings[1]}', labels)


def write_masks(root: Path, names: str = 'sky\nroad\ncar\n') -> DataRequest:
    for split in ('train', 'val'):
        write_pairs(root / 'img_dir' / split, root / 'ann_dir' / split)
    (root / 'CLASSES.txt').write_text(names)
    return DataRequest(data_root=str(root))


def write_folders(
    root: Path, classes: tuple[str, ...] = ('glass', 'paper'), splits: tuple[str, ...] = ('train', 'val')
) -> DataRequest:
    for split in splits:
        for number, name in enumerate(classes, 1):
            (root / split / name).mkdir(parents=True)
            for index in range(number):
                Image.new('RGB', (8, 8)).save(root / split / name / f'{index}.png')
    return DataRequest(data_root=str(root))


def build(cfg: Config, split: str) -> Any:
    """Builds the toolbox's own data set of a split."""
    from mmengine.registry import DATASETS, DefaultScope, init_default_scope

    if DefaultScope.check_instance_created('mmengine') or DefaultScope.get_current_instance() is None:
        init_default_scope(cfg.default_scope)
    with DATASETS.switch_scope_and_registry(cfg.default_scope) as registry:
        return registry.build(cfg[f'{split}_dataloader'].dataset)


def masks_read(cfg: Config, split: str = 'train') -> list[np.ndarray]:
    """What mmseg gives to a network as labels."""
    cfg[f'{split}_dataloader'].dataset.pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]
    dataset = build(cfg, split)
    found = {Path(row['img_path']).name: row['gt_seg_map'] for row in (dataset[n] for n in range(len(dataset)))}
    return [found[name] for name in sorted(found)]
