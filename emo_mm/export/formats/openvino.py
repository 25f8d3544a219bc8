"""OpenVINO's ``.xml`` and ``.bin``, from ONNX."""

from __future__ import annotations

import tempfile
from pathlib import Path

from emo_mm.export.formats.onnx import plain_onnx
from emo_mm.export.job import Job, quantized
from emo_mm.runtime.metadata import KEY
from emo_mm.runtime.sessions.openvino import PRECISION_KEY


def write(job: Job, path: Path) -> None:
    """Write OpenVINO's ``.xml`` and ``.bin``, from ONNX."""
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / 'plain.onnx'
        plain.write_bytes(plain_onnx(job))
        model = openvino.convert_model(plain)
    if job.precision == 'int8':
        model = quantized(model, job)
    model.set_rt_info(job.metadata.to_json(), KEY)
    if job.precision != 'float32':
        model.set_rt_info(job.precision, PRECISION_KEY)
    openvino.save_model(model, path, compress_to_fp16=job.precision == 'half')
