"""Label files whose objects have outlines, for models that find the pixels of each object.

They are read as those of boxes are, by the same layouts, and trained on as a COCO file with polygons or RLE. An object
without an outline is left out and told; where none has one, the data set is refused.
"""

from __future__ import annotations

from emo_mm.data.layouts.boxes.cvat import CvatLayout
from emo_mm.data.layouts.boxes.labelme import LabelmeLayout
from emo_mm.data.layouts.boxes.yolo import YoloLayout
from emo_mm.data.layouts.coco import CocoLayout


class CocoInstances(CocoLayout):
    """Polygons and RLE of COCO files."""

    name = 'COCO annotation files with outlines'
    masks = True


COCO_INSTANCES = CocoInstances()


class YoloInstances(YoloLayout):
    """Polygons of YOLO."""

    name = 'YOLO labels with polygons'
    coco = COCO_INSTANCES


class CvatInstances(CvatLayout):
    """Polygons, ellipses and masks of CVAT."""

    name = 'CVAT annotations with outlines'
    coco = COCO_INSTANCES


class LabelmeInstances(LabelmeLayout):
    """Shapes of LabelMe, its rectangles too."""

    name = 'LabelMe files with outlines'
    coco = COCO_INSTANCES


YOLO_INSTANCES = YoloInstances()
CVAT_INSTANCES = CvatInstances()
LABELME_INSTANCES = LabelmeInstances()
