"""TensorFlow Lite's files in LiteRT."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from emo_mm.runtime.seal import check_seal
from emo_mm.runtime.sessions.session import cannot_load, check_places, described, fails


class LiteRTSession:
    """A ``.tflite`` file in LiteRT, on the CPU.

    Args:
        path: The file; its description lies beside.
        threads: Threads.
        batch: Of no consequence here: these files have a fixed batch.

    Raises:
        UserError: If it cannot be used.
        ImportError: If the runtime is missing.
    """

    def __init__(self, path: Path, threads: int, batch: int | None = None) -> None:
        from ai_edge_litert.interpreter import Interpreter

        check_seal(path)
        self.metadata = described(None, path)
        try:
            self._interpreter = Interpreter(str(path), num_threads=threads)
            self._interpreter.allocate_tensors()
            self._call = self._interpreter.get_signature_runner()
            inputs, outputs = self._call.get_input_details(), self._call.get_output_details()
        except (ValueError, RuntimeError) as error:
            raise cannot_load(path, 'LiteRT', error) from None
        check_places(path, self.metadata, [np.dtype(found['dtype']).name for found in inputs.values()], len(outputs))
        (self._input,) = inputs
        # LiteRT's exporter numbers what it does not name
        self._outputs = sorted(outputs, key=lambda name: (len(name), name))
        self._path = path

    def run(self, batch: np.ndarray) -> list[np.ndarray]:
        """Return the outputs for an input."""
        try:
            found = self._call(**{self._input: batch})
        except (ValueError, RuntimeError) as error:
            raise fails(self._path, batch, error) from None
        return [found[name] for name in self._outputs]
