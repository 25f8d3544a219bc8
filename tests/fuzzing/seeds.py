"""Sound files of each kind, from which damaged ones are made."""

from __future__ import annotations

import io
import json
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

TINY = dict(
    depths=(1, 1, 2, 2),
    embed_dims=(8, 8, 16, 16),
    expand_ratio=(2, 2, 2, 2),
    kernel_size=(3, 3, 5, 5),
    num_heads=(0, 0, 2, 2),
)
PHOTOS = 3


def photo(width: int, height: int, seed: int) -> Image.Image:
    """A picture with edges, gradients and noise."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    smooth = np.stack([columns * 3, rows * 4, 255 - columns - rows], axis=2) % 256
    noise = rng.integers(-20, 21, (height, width, 3))
    pixels = (smooth + noise).clip(0, 255).astype(np.uint8)
    pixels[height // 4 : height // 2, width // 3 : width // 2] = rng.integers(0, 256, 3)
    return Image.fromarray(pixels)


def jpeg_files() -> list[bytes]:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = photo(97, 61, 0)
    return [
        _saved(picture, 'JPEG', quality=90),
        _saved(picture, 'JPEG', quality=75, progressive=True, exif=exif),
        _saved(picture.convert('L'), 'JPEG', quality=60),
        _saved(picture.convert('CMYK'), 'JPEG', quality=90),
        _saved(photo(640, 427, 1), 'JPEG', quality=85, subsampling=0, restart_marker_blocks=7),
    ]


def png_files() -> list[bytes]:
    picture = photo(83, 59, 2)
    grey = np.asarray(picture.convert('L'))
    return [
        _saved(picture, 'PNG'),
        _saved(picture.convert('P', palette=Image.Palette.ADAPTIVE), 'PNG', transparency=0),
        _saved(picture.convert('RGBA'), 'PNG'),
        _saved(Image.fromarray(grey.astype(np.uint16) * 257), 'PNG'),
        _saved(picture.convert('1'), 'PNG', optimize=True),
    ]


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def coco_files() -> list[bytes]:
    """Annotations of the pictures that ``write_photos`` makes."""
    rng = Random(3)
    images = [{'id': 5 + i, 'file_name': f'{i}.jpg', 'width': 64, 'height': 48} for i in range(PHOTOS)]
    categories = [{'id': 10 + i, 'name': name, 'supercategory': 'animal'} for i, name in enumerate(('cat', 'dog'))]
    boxes = []
    for i in range(6):
        left, top, width, height = rng.randrange(40), rng.randrange(30), rng.randrange(4, 20), rng.randrange(4, 15)
        boxes.append(
            {
                'id': 100 + i,
                'image_id': 5 + i % PHOTOS,
                'category_id': 10 + i % 2,
                'bbox': [left, top, width, height],
                'area': width * height,
                'iscrowd': int(i == 5),
                'segmentation': [[left, top, left + width, top, left + width, top + height]],
            }
        )
    content = {'info': {'year': 2026}, 'images': images, 'categories': categories, 'annotations': boxes}
    plain = {**content, 'annotations': [{k: v for k, v in box.items() if k != 'segmentation'} for box in boxes]}
    return [json.dumps(content).encode(), json.dumps(plain, indent=1).encode()]


def write_photos(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(PHOTOS):
        photo(64, 48, i).save(folder / f'{i}.jpg')


def checkpoint_files(folder: Path) -> list[bytes]:
    """As MMEngine saves them, as ``emo-mm weights convert`` does in both formats, and a plain dict of tensors."""
    import torch

    from emo_mm.models import EMO
    from emo_mm.weights import convert

    torch.manual_seed(0)
    backbone = EMO(TINY)
    state = {f'backbone.{key}': value for key, value in backbone.state_dict().items()}
    meta = {
        'epoch': 3,
        'iter': 30,
        'cfg': "default_scope = 'mmdet'\n"
        f"model = dict(backbone=dict(type='emo_mm.EMO', arch={TINY!r}, window_size=7))\n",
        'dataset_meta': {'classes': ('cat', 'dog'), 'palette': [(0, 0, 0), (1, 1, 1)]},
        'experiment_name': 'tiny',
    }
    optimizer = {'state': {0: {'step': torch.tensor(3.0), 'exp_avg': torch.ones(4, 4)}}, 'param_groups': [{'lr': 0.1}]}
    trained, plain = folder / 'epoch_3.pth', folder / 'plain.pth'
    torch.save({'meta': meta, 'state_dict': state, 'optimizer': optimizer}, trained)
    torch.save(state, plain)
    paths = [trained, plain, convert(trained, folder, fmt='pth'), convert(trained, folder, fmt='safetensors')]
    return [path.read_bytes() for path in paths]


def onnx_files(folder: Path) -> list[bytes]:
    """Of each task; for detectors with boxes of all anchors."""
    from dataclasses import replace

    from deployed_files import write_onnx
    from descriptions import STRETCH, classifier, detector, segmenter

    from emo_mm.runtime.metadata import InputSpec

    open_size = InputSpec('images', 'float32', 'NCHW', None, None, None, normalized_inside=False)
    padded = replace(STRETCH, resize='keep_ratio', scale=(64, 48), pad_divisor=32)
    described = [
        detector(),
        segmenter('labels'),
        segmenter('logits', preprocessing=padded, input=open_size),
        classifier(),
    ]
    return [write_onnx(folder / f'{i}.onnx', metadata).read_bytes() for i, metadata in enumerate(described)]
