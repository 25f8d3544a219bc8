"""Programs of ``torch.export``."""

from __future__ import annotations

from pathlib import Path

import torch

from emo_mm.export.job import Job, program_of
from emo_mm.runtime.metadata import KEY


def write(job: Job, path: Path) -> None:
    """Write a program of ``torch.export``."""
    torch.export.save(program_of(job.graph, job.example), path, extra_files={KEY: job.metadata.to_json()})
