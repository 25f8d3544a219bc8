"""Programs of ``torch.export`` in PyTorch."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from emo_mm.predict.vetted_program import read_program
from emo_mm.runtime.metadata import KEY
from emo_mm.runtime.sessions.session import cannot_load, described, fails


class TorchProgramSession:
    """A ``.pt2`` file in PyTorch, on the CPU.

    The file is vetted before PyTorch reads it, whose loader would run what a stranger wrote.

    Args:
        path: The file.
        threads: Threads of PyTorch while it runs.
        batch: Of no consequence here.

    Raises:
        UserError: If it cannot be used.
    """

    def __init__(self, path: Path, threads: int, batch: int | None = None) -> None:
        import torchvision  # noqa: F401  # its NMS is an operator that a graph may have

        program = read_program(path)
        self.metadata = described(program.extra.get(KEY), path)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')  # that the archive's memory must not be written, which nobody does
                self._module = torch.export.load(program.archive).module()
        except Exception as error:  # of the deserializer, of many types
            raise cannot_load(path, 'PyTorch', error) from None
        self._path, self._threads = path, threads

    def run(self, batch: np.ndarray) -> list[np.ndarray]:
        """Return the outputs for an input."""
        try:
            with _threads(self._threads), torch.inference_mode():
                return [output.numpy() for output in self._module(torch.from_numpy(batch))]
        except Exception as error:  # of operators, and of what was fixed in tracing
            raise fails(self._path, batch, error) from None


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Let PyTorch use a number of threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
