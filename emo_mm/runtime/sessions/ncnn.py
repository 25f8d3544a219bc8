"""ncnn's files in ncnn."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from emo_mm.errors import UserError
from emo_mm.runtime.metadata import OUTPUT_RANKS
from emo_mm.runtime.seal import check_seal
from emo_mm.runtime.sessions.session import cannot_load, described, fails


class NcnnSession:
    """ncnn's ``.param`` and ``.bin``, on the CPU: one image at once.

    Args:
        path: The ``.param`` file; its ``.bin`` and its description lie beside.
        threads: Threads.
        batch: Of no consequence here.

    Raises:
        UserError: If it cannot be used.
        ImportError: If the runtime is missing.
    """

    def __init__(self, path: Path, threads: int, batch: int | None = None) -> None:
        import ncnn

        check_seal(path)
        self.metadata = described(None, path)
        if self.metadata.input.batch != 1:
            raise UserError(f'{path}: its description has a batch of {self.metadata.input.batch}, and ncnn has none')
        self._net = ncnn.Net()
        self._net.opt.num_threads = threads
        self._net.opt.use_fp16_packed = self._net.opt.use_fp16_storage = self._net.opt.use_fp16_arithmetic = False
        self._net.opt.use_bf16_storage = False
        if self._net.load_param(str(path)) != 0 or self._net.load_model(str(path.with_suffix('.bin'))) != 0:
            raise cannot_load(path, 'ncnn')
        self._path, self._mat = path, ncnn.Mat

    def run(self, batch: np.ndarray) -> list[np.ndarray]:
        """Return the outputs for an input of one image."""
        with self._net.create_extractor() as extractor:
            code = extractor.input('in0', self._mat(batch[0]).clone())
            found = [extractor.extract(f'out{index}') for index in range(len(self.metadata.output.names))]
        codes = [code or 0, *(code for code, _ in found)]
        if any(codes):
            raise fails(self._path, batch, RuntimeError(f'ncnn gives the codes {", ".join(map(str, codes))}'))
        arrays = [np.array(mat) for _, mat in found]
        # its maps have no batch, and some a leading 1 for it
        rank = OUTPUT_RANKS[self.metadata.output.kind]
        return [array.reshape(1, *array.shape[array.ndim + 1 - rank :]) for array in arrays]
