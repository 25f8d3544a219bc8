"""ncnn's ``.param`` and ``.bin``, through PNNX."""

from __future__ import annotations

import shutil
import tempfile
from copy import deepcopy
from pathlib import Path

import torch

from emo_mm.export.job import Job, call, quiet


def write(job: Job, path: Path) -> None:
    """Write ncnn's ``.param`` and ``.bin``, through PNNX, which writes more files beside them."""
    import pnnx

    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / 'graph.pt'
        with torch.no_grad(), quiet():
            # a copy: what modules remember of a trace, other tracers trip over
            torch.jit.trace(deepcopy(job.graph), (job.example,), check_trace=False).save(str(script))
        shape = ','.join(map(str, job.example.shape))
        half = int(job.precision == 'half')
        command = [pnnx.EXEC_PATH, str(script), f'inputshape=[{shape}]f32', f'fp16={half}']
        call(command, folder)
        for suffix in ('.param', '.bin'):
            shutil.move(str(Path(folder) / f'graph.ncnn{suffix}'), path.with_suffix(suffix))
