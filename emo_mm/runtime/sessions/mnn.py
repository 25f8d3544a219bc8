"""MNN's files in MNN."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from emo_mm.runtime.seal import check_seal
from emo_mm.runtime.sessions.session import cannot_load, described, fails


class MNNSession:
    """An ``.mnn`` file in MNN, on the CPU.

    Args:
        path: The file; its description lies beside.
        threads: Threads.
        batch: Of no consequence here: these files have a fixed batch.

    Raises:
        UserError: If it cannot be used.
        ImportError: If the runtime is missing.
    """

    def __init__(self, path: Path, threads: int, batch: int | None = None) -> None:
        with _standard_output_kept_clean():
            import MNN

        check_seal(path)
        self.metadata = described(None, path)
        names = [self.metadata.input.name], list(self.metadata.output.names)
        settings = {'backend': 'CPU', 'precision': 'high', 'numThread': threads}
        try:
            with _standard_output_kept_clean():
                self._runtime = MNN.nn.create_runtime_manager((settings,))
                self._net = MNN.nn.load_module_from_file(str(path), *names, runtime_manager=self._runtime)
        except Exception as error:  # whatever comes from its C++ parts
            cause = error.__cause__
            raise cannot_load(path, 'MNN', cause if isinstance(cause, Exception) else error) from None
        self._path, self._expr = path, MNN.expr
        self._layout = MNN.expr.NHWC if self.metadata.input.layout == 'NHWC' else MNN.expr.NCHW
        self._dtype = MNN.expr.uint8 if self.metadata.input.dtype == 'uint8' else MNN.expr.float

    def run(self, batch: np.ndarray) -> list[np.ndarray]:
        """Return the outputs for an input."""
        try:
            placed = self._expr.placeholder(list(batch.shape), self._layout, self._dtype)
            placed.write(batch)
            # NC4HW4 is MNN's own layout of maps
            outputs = [self._expr.convert(output, self._expr.NCHW) for output in self._net.forward([placed])]
            return [np.array(output.read()) for output in outputs]
        except Exception as error:  # whatever comes from its C++ parts
            raise fails(self._path, batch, error) from None


@contextmanager
def _standard_output_kept_clean() -> Iterator[None]:
    """Send what MNN's C++ parts say to standard error: standard output is for results."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        with suppress(OSError, TypeError, AttributeError):  # where C's own library cannot be reached
            ctypes.CDLL(None).fflush(None)  # its buffer would be written later, to wherever 1 leads then
        os.dup2(kept, 1)
        os.close(kept)
