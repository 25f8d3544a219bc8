"""ONNX files in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from emo_mm.runtime.metadata import KEY
from emo_mm.runtime.seal import check_seal
from emo_mm.runtime.sessions.session import cannot_load, check_names, described, fails


class OnnxRuntimeSession:
    """An ONNX file in ONNX Runtime, on the CPU.

    Args:
        path: The file.
        threads: Threads of an operator.
        batch: Of no consequence here.

    Raises:
        UserError: If it cannot be used.
        ImportError: If the runtime is missing.
    """

    def __init__(self, path: Path, threads: int, batch: int | None = None) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4  # fatal: errors are raised too
        check_seal(path)
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
            # damaged texts are no UTF-8
            description = self._session.get_modelmeta().custom_metadata_map.get(KEY)
            inputs = {tensor.name: tensor.type for tensor in self._session.get_inputs()}
            outputs = {tensor.name for tensor in self._session.get_outputs()}
        except Exception as error:  # the runtime's own types, one per kind of fault
            raise cannot_load(path, 'ONNX Runtime', error) from None
        self._path = path
        self.metadata = described(description, path)
        types = {'uint8': 'tensor(uint8)', 'float32': 'tensor(float)'}
        check_names(path, self.metadata, inputs, outputs, types)

    def run(self, batch: np.ndarray) -> list[np.ndarray]:
        """Return the outputs for an input."""
        try:
            return self._session.run(list(self.metadata.output.names), {self.metadata.input.name: batch})
        except Exception as error:  # the runtime's own types
            raise fails(self._path, batch, error) from None
