"""What a benchmark is asked for. It imports no torch, as the help is made from it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

# Settings of a short run, to see that everything works.
QUICK: dict[str, Any] = {'rounds': 3, 'turn_seconds': 0.0}


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


@dataclass(frozen=True)
class BenchmarkOptions:
    """What to measure, and how.

    Attributes:
        models: Names of backbones, configs and peers, or paths of configs.
        suite: Measure the models of a suite instead: backbones, detectors, segmenters or peers.
        sizes: Sizes of the input in pixels, 224 or 800x1344 (height x width); each model's published size if not
            given.
        batches: Batch sizes.
        runtimes: Runtimes: reference, eager, fused, compiled, onnx, openvino, cudagraphs; those of the suite, or eager
            and fused, if not given.
        modes: Modes: forward, e2e, train, train-cp; those of the suite, or forward, if not given.
        dtypes: Number types: fp32, bf16; on a GPU also tf32, fp16.
        device: Device: ``cpu``, ``cuda`` or ``cuda:N``.
        threads: Threads of the CPU; by default as many as this process may use cores.
        baseline: Runtime (of the same model) or model (in the same runtime) that the others are compared with; that of
            the suite, or the first of several, if not given.
        rounds: Rounds of one turn per contestant.
        turn_seconds: Least length of a turn in seconds.
        images: Folder of JPEG files for e2e; generated ones if not given.
        out: Folder for CSV, JSON, tables and pictures.
    """

    models: tuple[str, ...] = ()
    suite: str = ''
    sizes: tuple[tuple[int, int], ...] = ()
    batches: tuple[int, ...] = (1,)
    runtimes: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ('fp32',)
    device: str = 'cpu'
    threads: int = field(default_factory=usable_cores)
    baseline: str = ''
    rounds: int = 15
    turn_seconds: float = 0.5
    images: str | None = None
    out: str = 'benchmarks'
