"""The same small detection data set in every format that is read: four images of 32x32, three boxes in each split."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from PIL import Image

NAMES = ('cat', 'dog')
# split -> image -> boxes (label, left, top, right, bottom)
TOYS = {
    'train': {'a': [(0, 4, 4, 12, 20), (1, 16, 8, 24, 24)], 'b': [(1, 8, 8, 24, 16)]},
    'val': {'c': [(0, 2, 2, 10, 10)], 'd': [(0, 0, 0, 16, 16), (1, 8, 8, 24, 28)]},
}


def draw(path: Path, size: tuple[int, int] = (32, 32)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', size, (90, 120, 40)).save(path)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def yolo_lines(boxes: list) -> str:
    rows = [(n, (x + r) / 64, (y + b) / 64, (r - x) / 32, (b - y) / 32) for n, x, y, r, b in boxes]
    return ''.join(' '.join(map(str, row)) + '\n' for row in rows)


def yolo(root: Path, images: str = 'images/{}', labels: str = 'labels/{}', yaml: str | None = None) -> None:
    for split, of in TOYS.items():
        for name, boxes in of.items():
            draw(root / images.format(split) / f'{name}.jpg')
            write(root / labels.format(split) / f'{name}.txt', yolo_lines(boxes))
    lines = ''.join(f'{split}: {images.format(split)}\n' for split in TOYS)
    write(root / 'data.yaml', yaml or f'{lines}nc: 2\nnames: [cat, dog]\n')


def voc_xml(name: str, boxes: list) -> str:
    objects = ''.join(
        f'<object><name>{NAMES[n]}</name><difficult>0</difficult><bndbox><xmin>{x}</xmin><ymin>{y}</ymin>'
        f'<xmax>{r}</xmax><ymax>{b}</ymax></bndbox></object>\n'
        for n, x, y, r, b in boxes
    )
    size = '<size><width>32</width><height>32</height><depth>3</depth></size>'
    return f'<annotation><filename>{name}.jpg</filename>{size}\n{objects}</annotation>'


def voc(root: Path) -> None:
    folder = root / 'VOCdevkit' / 'VOC2007'
    for split, of in TOYS.items():
        write(folder / 'ImageSets' / 'Main' / f'{split}.txt', ''.join(f'{name}\n' for name in of))
        for name, boxes in of.items():
            draw(folder / 'JPEGImages' / f'{name}.jpg')
            write(folder / 'Annotations' / f'{name}.xml', voc_xml(name, boxes))


def voc_folders(root: Path, images: str = '{}', labels: str = '{}') -> None:
    for split, of in TOYS.items():
        for name, boxes in of.items():
            draw(root / images.format(split) / f'{name}.jpg')
            write(root / labels.format(split) / f'{name}.xml', voc_xml(name, boxes))


def table(root: Path, header: str = '', images: str = 'images') -> None:
    for split, of in TOYS.items():
        rows = [f'{images}/{k}.jpg,{x},{y},{r},{b},{NAMES[n]}\n' for k, v in of.items() for n, x, y, r, b in v]
        write(root / f'{split}.csv', header + ''.join(rows))
        for name in of:
            draw(root / images / f'{name}.jpg')


def roboflow_table(root: Path) -> None:
    for split, of in TOYS.items():
        rows = [f'{k}.jpg,32,32,{NAMES[n]},{x},{y},{r},{b}\n' for k, v in of.items() for n, x, y, r, b in v]
        write(root / split / '_annotations.csv', 'filename,width,height,class,xmin,ymin,xmax,ymax\n' + ''.join(rows))
        for name in of:
            draw(root / split / f'{name}.jpg')


def labelme(root: Path) -> None:
    for split, of in TOYS.items():
        for name, boxes in of.items():
            draw(root / split / f'{name}.jpg')
            shapes = [
                {'label': NAMES[n], 'shape_type': 'rectangle', 'points': [[r, y], [x, b]]} for n, x, y, r, b in boxes
            ]
            content = {'imagePath': f'{name}.jpg', 'imageWidth': 32, 'imageHeight': 32, 'shapes': shapes}
            write(root / split / f'{name}.json', json.dumps(content))


def cvat(root: Path) -> None:
    entries = []
    for split, of in TOYS.items():
        for name, boxes in of.items():
            draw(root / 'images' / split / f'{name}.jpg')
            shapes = ''.join(
                f'<box label="{NAMES[n]}" xtl="{x}" ytl="{y}" xbr="{r}" ybr="{b}"/>\n' for n, x, y, r, b in boxes
            )
            head = f'<image id="0" name="{name}.jpg" subset="{split.title()}" width="32" height="32">'
            entries.append(f'{head}{shapes}</image>\n')
    names = ''.join(f'<label><name>{name}</name></label>' for name in NAMES)
    meta = f'<meta><project><labels>{names}</labels></project></meta>'
    write(root / 'annotations.xml', f'<annotations>{meta}{"".join(entries)}</annotations>')


TREES: dict[str, tuple[str, Callable[[Path], None]]] = {
    'yolo, by kind': ('yolo', yolo),
    'yolo, by split': ('yolo', lambda root: yolo(root, '{}/images', '{}/labels')),
    'yolo, as Roboflow writes it': (
        'yolo',
        lambda root: yolo(
            root, '{}/images', '{}/labels', "train: ../train/images\nval: ../val/images\nnames: ['cat', 'dog']\n"
        ),
    ),
    'yolo, from another machine': (
        'yolo',
        lambda root: yolo(
            root, yaml='path: /content/toys\ntrain: images/train\nval: images/val\nnames: {0: cat, 1: dog}\n'
        ),
    ),
    'voc': ('voc', voc),
    'voc, beside the images': ('voc', voc_folders),
    'voc, folders': ('voc', lambda root: voc_folders(root, 'images/{}', 'annotations/{}')),
    'voc, folders by split': ('voc', lambda root: voc_folders(root, '{}/images', '{}/annotations')),
    'csv': ('csv', table),
    'csv, with a header': ('csv', lambda root: table(root, 'image_path,x1,y1,x2,y2,class_name\n')),
    'csv, as Roboflow writes it': ('csv', roboflow_table),
    'labelme': ('labelme', labelme),
    'cvat': ('cvat', cvat),
}
