"""Descriptions of deployed files for tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from emo_mm.runtime.metadata import (
    BY_ANCHOR,
    FORMAT_VERSION,
    NMS,
    OUTPUT_NAMES,
    InputSpec,
    MaskSpec,
    Metadata,
    OutputSpec,
    Preprocessing,
)
from emo_mm.version import __version__

STRETCH = Preprocessing(
    resize='stretch',
    scale=(64, 48),
    backend='cv2',
    interpolation='bilinear',
    crop=None,
    pad_divisor=1,
    pad_size=None,
    pad_value=0.0,
    mean=(123.675, 116.28, 103.53),
    std=(58.395, 57.12, 57.375),
)


def detector(**changes: Any) -> Metadata:
    """A detector of two classes with a float32 input of 64x48 and 6 + 2 anchors."""
    metadata = Metadata(
        format_version=FORMAT_VERSION,
        emo_mm_version=__version__,
        model='ssdlite_emo_1m_coco',
        task='det',
        classes=('cat', 'dog'),
        palette=((220, 20, 60), (0, 0, 142)),
        input=InputSpec('images', 'float32', 'NCHW', None, 48, 64, normalized_inside=False),
        preprocessing=STRETCH,
        output=OutputSpec('boxes', ('boxes', 'scores'), levels=(6, 2)),
        nms=NMS(0.02, 0.45, nms_pre=1000, max_per_image=200, class_agnostic=False, min_size=0),
        align_corners=False,
        weights_sha256=None,
    )
    return replace(metadata, **changes)


def instance_segmenter(kind: str = 'instances', **changes: Any) -> Metadata:
    """Like :func:`detector`, with masks; kernels have 2 channels."""
    by_anchor = kind in BY_ANCHOR
    output = OutputSpec(kind, OUTPUT_NAMES[kind], levels=(6, 2) if by_anchor else None)  # type: ignore[arg-type]
    masks = MaskSpec(0.5, channels=2 if by_anchor else None)
    made = {'task': 'ins', 'model': 'rtmdet-ins_emo_1m_coco', 'output': output, 'masks': masks}
    return detector(**made | changes)


def segmenter(kind: str = 'logits', **changes: Any) -> Metadata:
    output = OutputSpec(kind, (kind,), levels=None)  # type: ignore[arg-type]
    return detector(**{'task': 'seg', 'model': 'pspnet_emo_1m_ade20k', 'output': output, 'nms': None} | changes)


def classifier(**changes: Any) -> Metadata:
    output = OutputSpec('probabilities', ('probabilities',), levels=None)
    return detector(**{'task': 'cls', 'model': 'emo_1m_imagenet', 'output': output, 'nms': None} | changes)
