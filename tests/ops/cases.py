"""Inputs for mmcv's ops, the same wherever they are made, and what an op answers to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

Answers = dict[str, np.ndarray]


def _random(*shape: int, seed: int = 0, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Return float32 numbers that do not depend on the version of torch, on torch's default device."""
    numbers = np.random.RandomState(seed).uniform(low, high, shape).astype('float32')
    return torch.from_numpy(numbers).to(torch.get_default_device())


def _boxes(count: int, seed: int) -> tuple[Tensor, Tensor]:
    corners, sizes = _random(count, 2, seed=seed, high=60), _random(count, 2, seed=seed + 1, low=2, high=40)
    return torch.cat([corners, corners + sizes], dim=1), _random(count, seed=seed + 2)


def _gradients(output: Tensor, **inputs: Tensor) -> Answers:
    """Return an output and its gradients, of a sum with weights that differ from place to place."""
    weights = _random(*output.shape, seed=99, low=-1) if output.ndim else torch.tensor(1.0)
    found = torch.autograd.grad((output * weights.to(output)).sum(), list(inputs.values()))
    return {'output': output.detach().cpu().numpy()} | {
        f'grad_{name}': gradient.cpu().numpy() for name, gradient in zip(inputs, found, strict=True)
    }


def nms(offset: int, threshold: float, **options: Any) -> Answers:
    from mmcv.ops import nms

    dets, kept = nms(*_boxes(200, 1), threshold, offset=offset, **options)
    return {'dets': dets.cpu().numpy(), 'kept': kept.cpu().numpy()}


def batched_nms() -> Answers:
    from mmcv.ops import batched_nms

    boxes, scores = _boxes(300, 4)
    groups = torch.arange(300) % 7
    dets, kept = batched_nms(boxes, scores, groups, dict(type='nms', iou_threshold=0.5))
    return {'dets': dets.cpu().numpy(), 'kept': kept.cpu().numpy()}


def soft_nms(method: str, offset: int) -> Answers:
    from mmcv.ops import soft_nms

    boxes, scores = _boxes(100, 7)
    dets, kept = soft_nms(boxes, scores, 0.3, 0.5, 0.05, method, offset)
    return {'dets': dets.cpu().numpy(), 'kept': kept.cpu().numpy()}


def nms_match() -> Answers:
    from mmcv.ops import nms_match

    boxes, scores = _boxes(80, 10)
    groups = nms_match(torch.cat([boxes, scores[:, None]], dim=1), 0.4)
    return {
        'members': torch.cat(groups).cpu().numpy(),
        'sizes': np.array([len(group) for group in groups]),
    }


def bbox_overlaps(mode: str, aligned: bool, offset: int) -> Answers:
    from mmcv.ops import bbox_overlaps

    first, second = _boxes(30, 13)[0], _boxes(30, 16)[0]
    return {'ious': bbox_overlaps(first, second, mode=mode, aligned=aligned, offset=offset).cpu().numpy()}


def _rois() -> Tensor:
    """Return RoIs of two images, among them one that leaves the image and one without an area."""
    boxes = torch.cat([_boxes(12, 20)[0], torch.tensor([[-10.0, -5, 30, 90], [8, 8, 8, 8]])])
    images = (torch.arange(len(boxes)) % 2).float()
    return torch.cat([images[:, None], boxes], dim=1)


def roi_align(sampling_ratio: int, aligned: bool) -> Answers:
    from mmcv.ops import roi_align

    maps = _random(2, 3, 20, 24, seed=23, low=-1).requires_grad_()
    return _gradients(roi_align(maps, _rois(), (5, 7), 0.25, sampling_ratio, 'avg', aligned), input=maps)


def deform_conv(groups: int, deform_groups: int, stride: int, dilation: int) -> Answers:
    from mmcv.ops import deform_conv2d

    x = _random(2, 4, 9, 11, seed=30, low=-1).requires_grad_()
    weight = _random(6, 4 // groups, 3, 3, seed=31, low=-1).requires_grad_()
    height, width = ((n + 2 - dilation * 2 - 1) // stride + 1 for n in (9, 11))
    offset = _random(2, 18 * deform_groups, height, width, seed=32, low=-2, high=2).requires_grad_()
    y = deform_conv2d(x, offset, weight, stride, 1, dilation, groups, deform_groups)
    return _gradients(y, input=x, offset=offset, weight=weight)


def modulated_deform_conv(groups: int, deform_groups: int, stride: int, with_bias: bool) -> Answers:
    from mmcv.ops import modulated_deform_conv2d

    x = _random(2, 4, 9, 11, seed=40, low=-1).requires_grad_()
    weight = _random(6, 4 // groups, 3, 3, seed=41, low=-1).requires_grad_()
    bias = _random(6, seed=42).requires_grad_() if with_bias else None
    height, width = ((n - 1) // stride + 1 for n in (9, 11))
    offset = _random(2, 18 * deform_groups, height, width, seed=43, low=-2, high=2).requires_grad_()
    mask = _random(2, 9 * deform_groups, height, width, seed=44).requires_grad_()
    y = modulated_deform_conv2d(x, offset, mask, weight, bias, stride, 1, 1, groups, deform_groups)
    return _gradients(y, input=x, offset=offset, mask=mask, weight=weight, **({'bias': bias} if with_bias else {}))


# What mmcv compiles for the CPU, with odd settings of each: name -> function of no argument.
CASES: dict[str, Callable[[], Answers]] = {
    'nms': lambda: nms(0, 0.5),
    'nms_offset': lambda: nms(1, 0.3),
    'nms_threshold_and_limit': lambda: nms(0, 0.7, score_threshold=0.2, max_num=20),
    'batched_nms': batched_nms,
    **{f'soft_nms_{m}_{o}': (lambda m=m, o=o: soft_nms(m, o)) for m in ('naive', 'linear', 'gaussian') for o in (0, 1)},
    'nms_match': nms_match,
    **{
        f'bbox_overlaps_{mode}_{aligned}_{offset}': (lambda a=(mode, aligned, offset): bbox_overlaps(*a))
        for mode in ('iou', 'iof')
        for aligned in (False, True)
        for offset in (0, 1)
    },
    **{
        f'roi_align_{ratio}_{aligned}': (lambda a=(ratio, aligned): roi_align(*a))
        for ratio in (0, 2)
        for aligned in (False, True)
    },
    'deform_conv': lambda: deform_conv(1, 1, 1, 1),
    'deform_conv_groups_stride': lambda: deform_conv(2, 1, 2, 1),
    'deform_conv_deform_groups_dilation': lambda: deform_conv(1, 2, 1, 2),
    'modulated_deform_conv': lambda: modulated_deform_conv(1, 1, 1, False),
    'modulated_deform_conv_bias_groups_stride': lambda: modulated_deform_conv(2, 2, 2, True),
}
