"""The images of a COCO file with the boxes that a training reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from emo_mm.data.labelled import BoxLabels, LabelledBox, LabelledImage, ObjectLabels
from emo_mm.data.layouts.coco.entries import boxes_of
from emo_mm.data.layouts.coco.file import CocoFile
from emo_mm.data.outlines import is_number, is_rle, polygons_of


def labelled_images(
    file: CocoFile, content: Mapping[str, Any], image_dir: Path, classes: Sequence[str]
) -> Iterator[LabelledImage]:
    """Yield the images of a file with the boxes of some classes, without those that are at fault.

    Args:
        file: What the file holds.
        content: The same as the object that it was made from, repaired.
        image_dir: Folder that the file names start from.
        classes: Class names in label order.
    """
    annotations = content.get('annotations', [])
    name_of = {category['id']: category['name'] for category in content['categories']}
    label_of = {name: label for label, name in enumerate(classes)}
    boxes: list[list[LabelledBox]] = [[] for _ in file.images]
    read = boxes_of(annotations, content['images'], name_of, file.masks)
    for entry, box in zip(annotations, read, strict=True):
        if box.image is not None and box.use in ('trained', 'crowd') and box.name in label_of:
            left, top, width, height = entry['bbox']
            outline = entry.get('segmentation')
            outlines = tuple(tuple(polygon) for polygon in polygons_of(outline))
            runs = outline if file.masks and is_rle(outline) else None
            crowd = box.use == 'crowd'
            boxes[box.image].append(LabelledBox(label_of[box.name], left, top, width, height, outlines, crowd, runs))
    kind = ObjectLabels if file.masks else BoxLabels
    for name, size, found in zip(file.images, file.sizes, boxes, strict=True):
        width, height = size if all(is_number(side) and side > 0 for side in size) else (0, 0)
        yield LabelledImage(image_dir / name, kind(tuple(found), width, height))
