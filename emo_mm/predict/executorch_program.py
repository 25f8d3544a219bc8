"""ExecuTorch's files in ExecuTorch, whose runtime takes and gives tensors of PyTorch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from emo_mm.runtime.seal import check_seal
from emo_mm.runtime.sessions.session import cannot_load, described, fails


class ExecuTorchSession:
    """A ``.pte`` file in ExecuTorch, on the CPU.

    Args:
        path: The file; its description lies beside.
        threads: Of no consequence here: the runtime takes its threads from the process.
        batch: Of no consequence here: these files have a fixed batch.

    Raises:
        UserError: If it cannot be used.
        ImportError: If the runtime is missing.
    """

    def __init__(self, path: Path, threads: int, batch: int | None = None) -> None:
        from executorch.runtime import Runtime

        check_seal(path)
        self.metadata = described(None, path)
        try:
            # the program must outlive its method
            self._program = Runtime.get().load_program(path)
            self._method = self._program.load_method('forward')
        except Exception as error:  # RuntimeError and what else comes from its C++ parts
            raise cannot_load(path, 'ExecuTorch', error) from None
        self._path = path

    def run(self, batch: np.ndarray) -> list[np.ndarray]:
        """Return the outputs for an input."""
        try:
            # copies: the runtime writes the next answers into the same memory
            return [output.numpy().copy() for output in self._method.execute([torch.from_numpy(batch)])]
        except Exception as error:  # RuntimeError and what else comes from its C++ parts
            raise fails(self._path, batch, error) from None
