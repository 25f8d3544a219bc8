"""Sets of models that are measured together."""

from __future__ import annotations

from dataclasses import dataclass

from emo_mm.benchmark.subjects import BACKBONES, CLASSIFIERS, DETECTORS
from emo_mm.config.names import list_models


@dataclass(frozen=True)
class Suite:
    """A set of models with its default settings.

    Attributes:
        models: Names of the models.
        runtimes: Runtimes on a CPU.
        modes: Modes.
        baseline: A runtime or a model, see :class:`BenchmarkOptions`.
    """

    models: tuple[str, ...]
    runtimes: tuple[str, ...]
    modes: tuple[str, ...]
    baseline: str


_SSDLITES = tuple(name for name in list_models('det') if name.startswith('ssdlite') and name.endswith('_coco'))

SUITES = {
    'backbones': Suite(
        tuple(BACKBONES), ('reference', 'eager', 'fused', 'compiled'), ('forward', 'train'), 'reference'
    ),
    'detectors': Suite(
        (*_SSDLITES, *DETECTORS),
        ('eager', 'fused', 'compiled'),
        ('forward', 'e2e'),
        'ssdlite_mobilenetv2',
    ),
    'segmenters': Suite(
        tuple(name for name in list_models('seg') if name.endswith('_ade20k')),
        ('eager', 'fused', 'compiled'),
        ('forward', 'e2e'),
        'eager',
    ),
    'peers': Suite(
        (*BACKBONES, *CLASSIFIERS),
        ('eager', 'fused', 'compiled'),
        ('forward',),
        'emo_1m',
    ),
}
