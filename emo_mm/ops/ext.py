"""The module that stands in for ``mmcv._ext``: the ops of mmcv that have a stand-in, by their compiled names.

It is loaded under the name ``mmcv._ext`` by :mod:`emo_mm.ops.finder`. Any other op is there too, as a function that
raises :class:`~emo_mm.ops.install.MissingOpError` when it is called, because mmcv looks all of them up at import.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from emo_mm.ops.boxes import bbox_overlaps, nms, nms_match, softnms
from emo_mm.ops.deformable import (
    deform_conv_backward_input,
    deform_conv_backward_parameters,
    deform_conv_forward,
    modulated_deform_conv_backward,
    modulated_deform_conv_forward,
    ms_deform_attn_backward,
    ms_deform_attn_forward,
)
from emo_mm.ops.focal_loss import (
    sigmoid_focal_loss_backward,
    sigmoid_focal_loss_forward,
    softmax_focal_loss_backward,
    softmax_focal_loss_forward,
)
from emo_mm.ops.install import MissingOpError
from emo_mm.ops.roi import roi_align_backward, roi_align_forward, roi_pool_backward, roi_pool_forward

__all__ = [
    'bbox_overlaps',
    'deform_conv_backward_input',
    'deform_conv_backward_parameters',
    'deform_conv_forward',
    'modulated_deform_conv_backward',
    'modulated_deform_conv_forward',
    'ms_deform_attn_backward',
    'ms_deform_attn_forward',
    'nms',
    'nms_match',
    'roi_align_backward',
    'roi_align_forward',
    'roi_pool_backward',
    'roi_pool_forward',
    'sigmoid_focal_loss_backward',
    'sigmoid_focal_loss_forward',
    'softmax_focal_loss_backward',
    'softmax_focal_loss_forward',
    'softnms',
]


def get_compiler_version() -> str:
    """Say in reports on the environment that nothing was compiled."""
    return 'none: PyTorch stand-ins of emo_mm'


def get_compiling_cuda_version() -> str:
    """Say in reports on the environment that nothing was compiled."""
    return 'none: PyTorch stand-ins of emo_mm'


def __getattr__(name: str) -> Callable[..., Any]:
    if name.startswith('__'):
        raise AttributeError(name)

    def missing(*_: Any, **__: Any) -> Any:
        raise MissingOpError(name)

    missing.__name__ = name
    return missing
