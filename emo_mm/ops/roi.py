"""Stand-ins for mmcv's pooling of regions: RoIAlign by torchvision's op, RoIPool in PyTorch.

RoIs are rows of five: number of the image, then left, top, right, bottom. torchvision's RoIPool rounds the corners of a
region to whole pixels, which mmcv's does not, so that one is written here.
"""

from __future__ import annotations

import torch
from torch import Tensor

from emo_mm.ops.install import MissingOpError

_AVERAGE = 1  # pool_mode


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Fill ``output`` (R, C, aligned_height, aligned_width) with the averages of ``input`` (N, C, H, W) in each region.

    Raises:
        MissingOpError: For the maximum in place of the average, which torchvision does not have.
    """
    import torchvision  # noqa: F401  registers the op

    if pool_mode != _AVERAGE:
        raise MissingOpError("roi_align with pool_mode='max'")
    sizes = (spatial_scale, aligned_height, aligned_width)
    rois = rois.to(input.dtype)
    output.copy_(torch.ops.torchvision.roi_align(input, rois, *sizes, sampling_ratio, aligned))


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Fill ``grad_input`` (N, C, H, W).

    Raises:
        MissingOpError: For the maximum in place of the average.
    """
    import torchvision  # noqa: F401

    if pool_mode != _AVERAGE:
        raise MissingOpError("roi_align with pool_mode='max'")
    sizes = (spatial_scale, aligned_height, aligned_width)
    gradient = torch.ops.torchvision._roi_align_backward(
        grad_output, rois.to(grad_output.dtype), *sizes, *grad_input.shape, sampling_ratio, aligned
    )
    grad_input.copy_(gradient)


def roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Fill ``output`` (R, C, pooled_height, pooled_width) with the maxima of ``input`` (N, C, H, W) in each region.

    ``argmax``, of the same shape, gets the place of each maximum in its map (row * W + column), -1 in an empty bin,
    whose maximum is 0.
    """
    height, width = input.shape[2:]
    for number, roi in enumerate(rois):
        left, top, right, bottom = (roi[1:] + roi.new_tensor([0, 0, 1, 1])) * spatial_scale
        if right <= left or bottom <= top:
            output[number], argmax[number] = 0, 0  # as in the compiled op, which skips it
            continue
        rows, in_row = _bins(top, bottom, pooled_height, height)  # (pooled_height, h)
        columns, in_column = _bins(left, right, pooled_width, width)  # (pooled_width, w)
        image = input[int(roi[0])]  # C,H,W
        # C, pooled_height, pooled_width, h, w
        values = image[:, rows[:, None, :, None], columns[None, :, None, :]]
        inside = in_row[:, None, :, None] & in_column[None, :, None, :]
        values = values.masked_fill(~inside, -torch.inf).flatten(-2)  # h,w -> h*w
        best, where = values.max(-1)  # C, pooled_height, pooled_width
        places = (rows[:, None, :, None] * width + columns[None, :, None, :]).flatten(-2)
        empty = ~inside.flatten(-2).any(-1)
        output[number] = best.masked_fill(empty, 0)
        argmax[number] = (
            places.expand(len(image), -1, -1, -1).gather(-1, where[..., None])[..., 0].masked_fill(empty, -1)
        )


def _bins(start: Tensor, stop: Tensor, count: int, limit: int) -> tuple[Tensor, Tensor]:
    """Return the pixels of each bin between two places of an axis, and which of them belong to the bin.

    Returns:
        Numbers of pixels (count, most), and a mask of that shape.
    """
    size = (stop - start) / count
    numbers = torch.arange(count, device=start.device)
    first = (numbers * size + start).floor().clamp(0, limit).long()
    last = ((numbers + 1) * size + start).ceil().clamp(0, limit).long()
    most = max(int((last - first).max()), 1)
    pixels = first[:, None] + torch.arange(most, device=start.device)
    return pixels.clamp(max=limit - 1), pixels < last[:, None]


def roi_pool_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax: Tensor,
    grad_input: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Add to ``grad_input`` (N, C, H, W) the gradient of each maximum where it was found."""
    images, channels = grad_input.shape[:2]
    width = grad_input.shape[2] * grad_input.shape[3]
    # the place of each maximum among all maps: ((image * C) + channel) * H * W + place
    image = rois[:, 0].long()[:, None, None, None]
    channel = torch.arange(channels, device=rois.device)[None, :, None, None]
    places = (image * channels + channel) * width + argmax.long()  # R, C, pooled_height, pooled_width
    found = argmax >= 0
    flat = grad_input.new_zeros(images * channels * width)
    flat.index_add_(0, places[found], grad_output[found])
    grad_input += flat.view_as(grad_input)
