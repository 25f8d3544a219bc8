"""The same small segmentation data set in every format that holds outlines: images of 32x24, boxes that are filled."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from box_trees import draw, write
from PIL import Image

NAMES = ('cat', 'dog')
WIDTH, HEIGHT = 32, 24
# split -> image -> rectangles (label, left, top, right, bottom), whose outline is drawn
TOYS: dict[str, dict[str, list[tuple[int, int, int, int, int]]]] = {
    'train': {'a': [(0, 4, 4, 12, 20), (1, 16, 8, 24, 20)], 'b': [(1, 8, 8, 24, 16)], 'e': []},
    'val': {'c': [(0, 2, 2, 10, 10)], 'd': [(0, 0, 0, 16, 16), (1, 18, 8, 32, 24)]},
}


def mask_of(rectangles: list, background: int = 0) -> np.ndarray:
    labels = np.full((HEIGHT, WIDTH), background, np.uint8)
    for label, left, top, right, bottom in rectangles:
        labels[top:bottom, left:right] = label + 1
    return labels


MASKS = {split: {name: mask_of(rows) for name, rows in of.items()} for split, of in TOYS.items()}


def corners(left: int, top: int, right: int, bottom: int) -> list[int]:
    return [left, top, right, top, right, bottom, left, bottom]


def pixels(left: int, top: int, right: int, bottom: int) -> np.ndarray:
    inside = np.zeros((HEIGHT, WIDTH), np.uint8)
    inside[top:bottom, left:right] = 1
    return inside


def polygons(*sides: int) -> Any:
    return [corners(*sides)]


def rle(*sides: int) -> Any:
    flat = pixels(*sides).ravel(order='F')
    ends = [0, *(np.flatnonzero(np.diff(np.r_[0, flat]))).tolist(), flat.size]
    return {'size': [HEIGHT, WIDTH], 'counts': np.diff(ends).tolist()}


def compressed(*sides: int) -> Any:
    from pycocotools import mask

    found = mask.encode(np.asfortranarray(pixels(*sides)))
    return {'size': list(found['size']), 'counts': found['counts'].decode()}


def coco_content(split: str, outline: Callable[..., Any] = polygons, first_id: int = 1) -> dict[str, Any]:
    of = TOYS[split]
    annotations: list[dict[str, Any]] = []
    for image_id, rectangles in enumerate(of.values(), first_id):
        for label, left, top, right, bottom in rectangles:
            bbox = [left, top, right - left, bottom - top]
            entry = {'image_id': image_id, 'category_id': label + first_id, 'bbox': bbox, 'area': bbox[2] * bbox[3]}
            outlined = {'segmentation': outline(left, top, right, bottom), 'iscrowd': 0}
            annotations.append({'id': len(annotations) + 1, **entry, **outlined})
    return {
        'images': [
            {'id': number, 'file_name': f'{name}.jpg', 'width': WIDTH, 'height': HEIGHT}
            for number, name in enumerate(of, first_id)
        ],
        'categories': [{'id': number, 'name': name} for number, name in enumerate(NAMES, first_id)],
        'annotations': annotations,
    }


def images(root: Path, folder: str) -> None:
    for split, of in TOYS.items():
        for name in of:
            draw(root / folder.format(split) / f'{name}.jpg', (WIDTH, HEIGHT))


def coco(root: Path, outline: Callable[..., Any] = polygons, harm: Callable[[dict], object] | None = None) -> None:
    """``annotations/{train,val}.json`` with ``images/``; the harm is done to the training split."""
    images(root, 'images')
    for split in TOYS:
        content = coco_content(split, outline)
        if harm is not None and split == 'train':
            harm(content)
        write(root / 'annotations' / f'{split}.json', json.dumps(content))


def label_studio(root: Path) -> None:
    """One ``result.json`` without splits, ids from 0, images below the folder that it was exported to."""
    draw(root / 'images' / 'a.jpg', (WIDTH, HEIGHT))
    content = coco_content('train', first_id=0)
    entries, annotations = [], []
    for number in range(8):
        draw(root / 'images' / f'shot{number}.jpg', (WIDTH, HEIGHT))
        entries.append({'id': number, 'file_name': f'images\\shot{number}.jpg', 'width': WIDTH, 'height': HEIGHT})
        for entry in content['annotations'][:2]:
            annotations.append({**entry, 'id': len(annotations), 'image_id': number, 'ignore': 0})
    (root / 'images' / 'a.jpg').unlink()
    write(root / 'result.json', json.dumps({**content, 'images': entries, 'annotations': annotations}))


def yolo(root: Path) -> None:
    images(root, 'images/{}')
    for split, of in TOYS.items():
        for name, rectangles in of.items():
            rows = [
                (label, *(v / (WIDTH, HEIGHT)[i % 2] for i, v in enumerate(corners(*r)))) for label, *r in rectangles
            ]
            write(root / 'labels' / split / f'{name}.txt', ''.join(' '.join(map(str, row)) + '\n' for row in rows))
    write(root / 'data.yaml', 'train: images/train\nval: images/val\nnames: [cat, dog]\n')


def labelme_file(root: Path, name: str, shapes: list[dict[str, Any]]) -> None:
    draw(root / f'{name}.jpg', (WIDTH, HEIGHT))
    content = {'imagePath': f'{name}.jpg', 'imageWidth': WIDTH, 'imageHeight': HEIGHT, 'shapes': shapes}
    write(root / f'{name}.json', json.dumps(content))


def shape(label: str, kind: str, *points: tuple[float, float], **more: Any) -> dict[str, Any]:
    return {'label': label, 'shape_type': kind, 'points': [list(point) for point in points], **more}


def labelme_polygon(label: str, *sides: int) -> dict[str, Any]:
    points = corners(*sides)
    return shape(label, 'polygon', *zip(points[0::2], points[1::2], strict=True))


def labelme_mask(label: str, left: int, top: int, right: int, bottom: int) -> dict[str, Any]:
    buffer = io.BytesIO()
    Image.fromarray(np.full((bottom - top, right - left), True)).save(buffer, format='PNG')
    picture = base64.b64encode(buffer.getvalue()).decode()
    return shape(label, 'mask', (left, top), (right - 1, bottom - 1), mask=picture)


def labelme_rectangle(label: str, left: int, top: int, right: int, bottom: int) -> dict[str, Any]:
    return shape(label, 'rectangle', (right, top), (left, bottom))


def labelme(root: Path, kind: Callable[..., dict[str, Any]] = labelme_polygon) -> None:
    for split, of in TOYS.items():
        for name, rectangles in of.items():
            labelme_file(root / split, name, [kind(NAMES[label], *sides) for label, *sides in rectangles])


def cvat_polygon(label: str, *sides: int, z: int = 0) -> str:
    points = corners(*sides)
    pairs = ';'.join(f'{x},{y}' for x, y in zip(points[0::2], points[1::2], strict=True))
    return f'<polygon label="{label}" z_order="{z}" points="{pairs}"/>'


def cvat_mask(label: str, left: int, top: int, right: int, bottom: int) -> str:
    """A mask of a part that is one pixel wider than the object, where the image has room for that."""
    inside, outside, height = right - left, int(right < WIDTH), bottom - top
    runs = '0' + f', {inside}, {outside}' * height
    place = f'left="{left}" top="{top}" width="{inside + outside}" height="{height}"'
    return f'<mask label="{label}" rle="{runs}" {place} z_order="0"/>'


def cvat_image(name: str, shapes: str, subset: str = '') -> str:
    head = f'<image id="0" name="{name}.jpg" subset="{subset}" width="{WIDTH}" height="{HEIGHT}">'
    return f'{head}{shapes}</image>'


def cvat(root: Path, kind: Callable[..., str] = cvat_polygon) -> None:
    images(root, 'images/{}')
    entries = [
        cvat_image(name, ''.join(kind(NAMES[label], *sides) for label, *sides in rectangles), split.title())
        for split, of in TOYS.items()
        for name, rectangles in of.items()
    ]
    labels = ''.join(f'<label><name>{name}</name></label>' for name in NAMES)
    meta = f'<meta><project><labels>{labels}</labels></project></meta>'
    write(root / 'annotations.xml', f'<annotations>{meta}{"".join(entries)}</annotations>')


# name -> key of the layout, tree
TREES: dict[str, tuple[str, Callable[[Path], None]]] = {
    'coco polygons': ('coco_outlines', coco),
    'coco runs': ('coco_outlines', lambda root: coco(root, rle)),
    'coco compressed runs': ('coco_outlines', lambda root: coco(root, compressed)),
    'coco flat polygons': ('coco_outlines', lambda root: coco(root, corners)),
    'yolo': ('yolo_outlines', yolo),
    'labelme polygons': ('labelme_outlines', labelme),
    'labelme rectangles': ('labelme_outlines', lambda root: labelme(root, labelme_rectangle)),
    'labelme masks': ('labelme_outlines', lambda root: labelme(root, labelme_mask)),
    'cvat polygons': ('cvat_outlines', cvat),
    'cvat masks': ('cvat_outlines', lambda root: cvat(root, cvat_mask)),
}


def files_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob('*')) if path.is_file()}
