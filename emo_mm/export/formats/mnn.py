"""MNN's ``.mnn``, from ONNX."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from emo_mm.export.formats.onnx import plain_onnx
from emo_mm.export.job import Job, call
from emo_mm.runtime.metadata import KEY

_CONVERTER = 'import sys; from MNN.tools.mnnconvert import main; sys.exit(main())'


def write(job: Job, path: Path) -> None:
    """Write MNN's ``.mnn``, from ONNX."""
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / 'plain.onnx'
        plain.write_bytes(plain_onnx(job))
        files = ['--modelFile', str(plain), '--MNNModel', str(path.resolve())]
        half = ['--fp16'] if job.precision == 'half' else []
        call([sys.executable, '-c', _CONVERTER, '-f', 'ONNX', *files, '--bizCode', KEY, *half], folder)
