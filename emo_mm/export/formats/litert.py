"""TensorFlow Lite's ``.tflite``, for LiteRT."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

from emo_mm.export.job import Job, quiet


def write(job: Job, path: Path) -> None:
    """Write LiteRT's ``.tflite``."""
    import litert_torch

    with quiet():
        litert_torch.convert(deepcopy(job.graph), (job.example,)).export(str(path))  # a copy: it leaves traces
