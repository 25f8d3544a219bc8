"""SSD's augmentation, faster: the same random numbers, pixels and boxes as mmdet's transforms of the same names."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from mmdet.datasets import transforms as mmdet_transforms
from mmdet.structures.bbox import HorizontalBoxes, autocast_box_type
from torch import Tensor

from emo_mm.registry import TRANSFORMS


@TRANSFORMS.register_module()
class Expand(mmdet_transforms.Expand):
    """mmdet's ``Expand`` with the canvas filled row by row.

    mmdet fills the canvas, up to 16 times the image, with a colour by broadcasting three numbers to each pixel, which
    takes longer than all else in SSD's augmentation together.
    """

    @autocast_box_type()
    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Place the image on a canvas and move its boxes. Images with masks are left to mmdet."""
        if results.get('gt_masks') is not None or results.get('gt_seg_map') is not None:
            return super().transform(results)
        if self._random_prob() > self.prob:
            return results
        image = results['img']
        height, width = image.shape[:2]
        ratio = self._random_ratio()
        canvas_height, canvas_width = int(height * ratio), int(width * ratio)
        left, top = self._random_left_top(ratio, height, width)
        results['img'] = cv2.copyMakeBorder(
            image,
            top,
            canvas_height - height - top,
            left,
            canvas_width - width - left,
            cv2.BORDER_CONSTANT,
            value=np.array(self.mean).astype(image.dtype).tolist(),  # cut to whole numbers where mmdet cuts them
        )
        results['img_shape'] = results['img'].shape[:2]
        if results.get('gt_bboxes') is not None:
            results['gt_bboxes'].translate_([left, top])
        return results


class _NumpyBoxes(HorizontalBoxes):
    """Boxes whose overlaps are computed by NumPy, which starts faster on a handful of boxes than torch."""

    @staticmethod
    def overlaps(
        boxes1: HorizontalBoxes,
        boxes2: HorizontalBoxes,
        mode: str = 'iou',
        is_aligned: bool = False,
        eps: float = 1e-6,
    ) -> Tensor:
        """Return the IoU of one box with each of n, (1, n); mmdet's arithmetic in its order, so the same bits."""
        if mode != 'iou' or is_aligned or len(boxes1) != 1:
            return HorizontalBoxes.overlaps(boxes1, boxes2, mode, is_aligned, eps)
        left, top, right, bottom = boxes1.tensor.numpy()[0]
        x1, y1, x2, y2 = boxes2.tensor.numpy().T
        zero = np.float32(0)
        width = np.maximum(np.minimum(right, x2) - np.maximum(left, x1), zero)
        height = np.maximum(np.minimum(bottom, y2) - np.maximum(top, y1), zero)
        common = width * height
        union = (right - left) * (bottom - top) + (x2 - x1) * (y2 - y1) - common
        return torch.from_numpy(common / np.maximum(union, np.float32(eps)))[None]


@TRANSFORMS.register_module()
class MinIoURandomCrop(mmdet_transforms.MinIoURandomCrop):
    """mmdet's ``MinIoURandomCrop``, which tries some eighty crops an image, with cheaper overlaps."""

    @autocast_box_type()
    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Crop the image so that its boxes overlap the crop enough, as mmdet does."""
        boxes = results['gt_bboxes']
        if type(boxes) is not HorizontalBoxes:
            return super().transform(results)
        results['gt_bboxes'] = _NumpyBoxes(boxes.tensor, clone=False)
        results = super().transform(results)
        results['gt_bboxes'] = HorizontalBoxes(results['gt_bboxes'].tensor, clone=False)
        return results
