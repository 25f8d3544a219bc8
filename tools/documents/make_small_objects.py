#!/usr/bin/env python
"""Make a data set of small objects for docs/own_data.md: shapes of seven classes, most of them small, on photographs.

The boxes are in COCO's format, in ``train`` and ``valid``. The same arguments give the same pictures.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter

WIDTH, HEIGHT = 1024, 768
IMAGES = {'train': 448, 'valid': 127}
SMALLEST, LARGEST = 20, 130  # pixels: square root of the area of a box
MOST = 30  # objects in a picture

Place = tuple[float, float, float, float]  # left, top, width, height
Colour = tuple[int, int, int]
Draw = Callable[[ImageDraw.ImageDraw, Place, Colour], None]


def main() -> int:
    """Make it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('out', type=Path, help='folder of the data set')
    parser.add_argument('photographs', nargs='+', type=Path, help='folders of photographs for the background')
    args = parser.parse_args()
    found = [path for folder in args.photographs for path in sorted(folder.rglob('*')) if path.suffix in SUFFIXES]
    if not found:
        parser.error('no photographs there')
    chance = random.Random(0)  # nosec B311
    for split, number in IMAGES.items():
        folder = args.out / split
        folder.mkdir(parents=True, exist_ok=True)
        content = {'images': [], 'annotations': [], 'categories': CATEGORIES}
        for image_id in range(number):
            picture, boxes = _picture(chance, found)
            name = f'{image_id:04d}.jpg'
            picture.save(folder / name, quality=90)
            content['images'].append({'id': image_id, 'file_name': name, 'width': WIDTH, 'height': HEIGHT})
            for label, place in boxes:
                content['annotations'].append(
                    {
                        'id': len(content['annotations']) + 1,
                        'image_id': image_id,
                        'category_id': label,
                        'bbox': [round(value, 2) for value in place],
                        'area': round(place[2] * place[3], 2),
                        'iscrowd': 0,
                    }
                )
        (folder / '_annotations.coco.json').write_text(json.dumps(content))
        print(f'{split}: {number} images, {len(content["annotations"])} boxes')
    return 0


def _picture(chance: random.Random, photographs: list[Path]) -> tuple[Image.Image, list[tuple[int, Place]]]:
    """Return a picture and its boxes, each with the number of its class."""
    with Image.open(chance.choice(photographs)) as photograph:
        picture = photograph.convert('RGB').resize((WIDTH, HEIGHT)).filter(ImageFilter.GaussianBlur(2))
    draw = ImageDraw.Draw(picture)
    boxes: list[tuple[int, Place]] = []
    for _ in range(min(MOST, max(1, int(chance.lognormvariate(1.8, 0.8))))):
        label = chance.choices(range(len(CLASSES)), [share for _, share, _ in CLASSES])[0]
        side = math.exp(chance.uniform(math.log(SMALLEST), math.log(LARGEST)))
        ratio = chance.uniform(0.6, 1.6)
        width, height = side * math.sqrt(ratio), side / math.sqrt(ratio)
        place = (chance.uniform(0, WIDTH - width), chance.uniform(0, HEIGHT - height), width, height)
        colour = tuple(chance.randint(20, 235) for _ in range(3))
        if any(_touch(place, other) for _, other in boxes):
            continue
        boxes.append((label + 1, place))
        CLASSES[label][2](draw, place, colour)  # type: ignore[arg-type]
    return picture.filter(ImageFilter.GaussianBlur(1)), boxes


def _touch(one: Place, other: Place) -> bool:
    return all(abs(2 * (one[i] - other[i]) + one[i + 2] - other[i + 2]) < one[i + 2] + other[i + 2] for i in (0, 1))


def _corners(place: Place) -> tuple[float, float, float, float]:
    left, top, width, height = place
    return left, top, left + width, top + height


def _fish(draw: ImageDraw.ImageDraw, place: Place, colour: Colour) -> None:
    left, top, right, bottom = _corners(place)
    width, height = place[2:]
    draw.ellipse((left, top + 0.2 * height, left + 0.75 * width, bottom - 0.2 * height), fill=colour)
    draw.polygon([(left + 0.65 * width, (top + bottom) / 2), (right, top), (right, bottom)], fill=colour)


def _umbrella(draw: ImageDraw.ImageDraw, place: Place, colour: Colour) -> None:
    left, top, _, bottom = _corners(place)
    width, height = place[2:]
    draw.pieslice(_corners(place), 180, 360, fill=colour)
    for part in (0.2, 0.4, 0.6, 0.8):
        x = left + part * width
        draw.line([(x, top + height / 2), (x, bottom)], fill=colour, width=max(1, int(0.08 * width)))


def _ring(draw: ImageDraw.ImageDraw, place: Place, colour: Colour) -> None:
    left, top, right, bottom = _corners(place)
    width, height = place[2:]
    draw.ellipse(_corners(place), fill=colour)
    draw.ellipse((left + 0.25 * width, top + 0.3 * height, right - 0.25 * width, bottom), fill=(240, 240, 240))


def _rectangle(draw: ImageDraw.ImageDraw, place: Place, colour: Colour) -> None:
    draw.rectangle(_corners(place), fill=colour)


def _diamond(draw: ImageDraw.ImageDraw, place: Place, colour: Colour) -> None:
    left, top, right, bottom = _corners(place)
    x, y = (left + right) / 2, (top + bottom) / 2
    draw.polygon([(left, y), (x, top), (right, y), (x, bottom)], fill=colour)


def _star(draw: ImageDraw.ImageDraw, place: Place, colour: Colour) -> None:
    left, top, right, bottom = _corners(place)
    x, y, width, height = (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
    turns = [(step * math.pi / 5, 0.5 if step % 2 == 0 else 0.2) for step in range(10)]
    draw.polygon([(x + r * width * math.sin(a), y - r * height * math.cos(a)) for a, r in turns], fill=colour)


def _wedge(draw: ImageDraw.ImageDraw, place: Place, colour: Colour) -> None:
    left, top, right, bottom = _corners(place)
    draw.polygon([(left, top), (right, top), ((left + right) / 2, bottom)], fill=colour)


SUFFIXES = ('.jpg', '.png')
# Name, share of the objects, how it is drawn.
CLASSES: tuple[tuple[str, float, Draw], ...] = (
    ('fish', 0.55, _fish),
    ('umbrella', 0.14, _umbrella),
    ('ring', 0.10, _ring),
    ('rectangle', 0.06, _rectangle),
    ('diamond', 0.07, _diamond),
    ('star', 0.03, _star),
    ('wedge', 0.05, _wedge),
)
CATEGORIES = [{'id': number, 'name': name} for number, (name, _, _) in enumerate(CLASSES, 1)]

if __name__ == '__main__':
    sys.exit(main())
