"""Boxes of images, whatever file they come from: what all readers return, and the COCO content that is trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from emo_mm.data.outlines import Segmentation, area_within, corners, is_rle, polygons_of


@dataclass(frozen=True)
class Box:
    """A labelled box, in pixels of its image as it stands upright.

    Attributes:
        label: Index of its class.
        left: Left border.
        top: Upper border.
        width: Width.
        height: Height.
        crowd: Whether it is neither trained on nor counted as a mistake: crowds of COCO, difficult objects of VOC.
        segmentation: Its outline; None if there is none.
        filled: Whether the box itself is the outline: a rectangle that was drawn where polygons are drawn too.
        source: Where it was read: the file, and the line or the number of the object.
    """

    label: int
    left: float
    top: float
    width: float
    height: float
    crowd: bool = False
    segmentation: Segmentation | None = None
    filled: bool = False
    source: str = ''

    @classmethod
    def around(cls, label: int, points: Sequence[float], source: str, outline: bool = True) -> Box:
        """Return the box around points, x and y in turn; they are its polygon too if they are its outline."""
        left, top = min(points[0::2]), min(points[1::2])
        width, height = max(points[0::2]) - left, max(points[1::2]) - top
        return cls(label, left, top, width, height, segmentation=[list(points)] if outline else None, source=source)

    @property
    def polygons(self) -> list[list[float]]:
        """The polygons that are its outline, one for each part; none where it has no outline, or an RLE."""
        if self.segmentation is None and self.filled:
            return [corners(self.left, self.top, self.left + self.width, self.top + self.height)]
        return polygons_of(self.segmentation)


@dataclass(frozen=True)
class LabelFault:
    """A label that cannot be read as a box.

    Attributes:
        source: Where it is: the file, and the line or the number of the object.
        detail: What is wrong with it.
    """

    source: str
    detail: str


@dataclass(frozen=True)
class BoxImage:
    """An image and its boxes.

    Attributes:
        file: Path, relative to the root of the data set where it lies under it.
        width: Width in pixels.
        height: Height in pixels.
        boxes: Its boxes; none for a background image.
        faults: Labels of it that cannot be read.
    """

    file: str
    width: int
    height: int
    boxes: tuple[Box, ...] = ()
    faults: tuple[LabelFault, ...] = ()


@dataclass(frozen=True)
class BoxSet:
    """A split of a data set.

    Attributes:
        classes: Class names in label order; empty where the files do not tell them.
        images: The images.
        notes: What a user should know of it, in words.
        annotated: Whether it has labels at all; the images for a test server have none.
    """

    classes: tuple[str, ...]
    images: tuple[BoxImage, ...]
    notes: tuple[str, ...] = ()
    annotated: bool = True

    def with_classes(self, classes: Sequence[str]) -> BoxSet:
        """Return the same boxes, labelled by other classes; those that are not among them follow after them."""
        every = (*classes, *(name for name in self.classes if name not in classes))
        label_of = {label: every.index(name) for label, name in enumerate(self.classes)}

        def labelled(image: BoxImage) -> BoxImage:
            boxes = (replace(box, label=label_of.get(box.label, box.label)) for box in image.boxes)
            return replace(image, boxes=tuple(boxes))

        return replace(self, classes=every, images=tuple(map(labelled, self.images)))


def to_coco(box_set: BoxSet) -> dict[str, Any]:
    """Return the content of a COCO annotation file; labels become category ids as they are.

    Labels that cannot be read are among the annotations, with the key ``source_fault``, and every annotation tells by
    ``source`` where it was read; the check of the content names both. A rectangle that is an outline has ``filled``.
    """
    annotations: list[dict[str, Any]] = []
    for image_id, image in enumerate(box_set.images, 1):
        entries = [*map(_annotation, image.boxes), *map(_faulty_annotation, image.faults)]
        annotations += [
            {'id': len(annotations) + i, 'image_id': image_id, **entry} for i, entry in enumerate(entries, 1)
        ]
    content: dict[str, Any] = {
        'images': [
            {'id': image_id, 'file_name': image.file, 'width': image.width, 'height': image.height}
            for image_id, image in enumerate(box_set.images, 1)
        ],
        'categories': [{'id': label, 'name': name} for label, name in enumerate(box_set.classes)],
    }
    return {**content, 'annotations': annotations} if box_set.annotated else content


def measured(content: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a COCO file with the areas of the outlines, by which the evaluation tells sizes."""
    entries = [
        {**entry, 'area': round(area, 3)} if (area := area_within(entry.get('segmentation') or [])) >= 1 else entry
        for entry in content.get('annotations', [])
    ]
    return {**content, 'annotations': entries} if 'annotations' in content else content


def _annotation(box: Box) -> dict[str, Any]:
    entry: dict[str, Any] = {
        'category_id': box.label,
        'bbox': [round(side, 3) for side in (box.left, box.top, box.width, box.height)],
        'area': round(box.width * box.height, 3),
        'iscrowd': int(box.crowd),
    }
    outline = box.segmentation
    if outline is not None:
        polygons = outline if isinstance(outline, list) else []
        entry['segmentation'] = [[round(side, 3) for side in points] for points in polygons] or outline
    if box.filled:
        entry['filled'] = True
    return {**entry, 'source': box.source} if box.source else entry


def _faulty_annotation(fault: LabelFault) -> dict[str, Any]:
    broken = {'category_id': 0, 'bbox': [], 'area': 0, 'iscrowd': 0}
    return {**broken, 'source': fault.source, 'source_fault': fault.detail}


def from_coco(content: Mapping[str, Any]) -> BoxSet:
    """Return the boxes of a COCO annotation file that has no fault; annotations of images not listed are left out."""
    label_of = {entry['id']: label for label, entry in enumerate(content['categories'])}
    boxes: dict[Any, list[Box]] = {entry['id']: [] for entry in content['images']}
    for entry in content.get('annotations', []):
        if entry['image_id'] in boxes:
            boxes[entry['image_id']].append(_box(entry, label_of[entry['category_id']]))
    images = (
        BoxImage(entry['file_name'], entry['width'], entry['height'], tuple(boxes[entry['id']]))
        for entry in content['images']
    )
    return BoxSet(
        tuple(entry['name'] for entry in content['categories']), tuple(images), annotated='annotations' in content
    )


def _box(entry: Mapping[str, Any], label: int) -> Box:
    outline = entry.get('segmentation')
    known = outline if polygons_of(outline) or is_rle(outline) else None
    left, top, width, height = entry['bbox']
    return Box(label, left, top, width, height, bool(entry['iscrowd']), known, bool(entry.get('filled')))
