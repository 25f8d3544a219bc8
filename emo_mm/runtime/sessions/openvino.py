"""OpenVINO's files in OpenVINO."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from emo_mm.errors import UserError
from emo_mm.runtime.metadata import KEY
from emo_mm.runtime.seal import check_seal
from emo_mm.runtime.sessions.session import cannot_load, check_names, described, fails

PRECISION_KEY = f'{KEY}_precision'  # of files in less than full precision


class OpenVINOSession:
    """An OpenVINO file, on the CPU.

    Args:
        path: The ``.xml`` file; its ``.bin`` lies beside.
        threads: Threads.
        batch: Images at once, which a file of any batch is fixed to; None leaves it open.

    Raises:
        UserError: If it cannot be used.
        ImportError: If the runtime is missing.
    """

    def __init__(self, path: Path, threads: int, batch: int | None = None) -> None:
        core = _core()
        settings: dict[str, Any] = {'PERFORMANCE_HINT': 'LATENCY', 'INFERENCE_NUM_THREADS': threads}
        check_seal(path)
        try:
            model = core.read_model(path)
            # Left to itself, OpenVINO computes in bfloat16 where the processor can: not for files in full precision.
            if _rt_info(model, PRECISION_KEY) is None:
                settings['INFERENCE_PRECISION_HINT'] = 'f32'
            self.metadata = described(_rt_info(model, KEY), path)
            spec = self.metadata.input
            inputs = {name: port.element_type.to_string() for port in model.inputs for name in port.names}
            outputs = {name for port in model.outputs for name in port.names}
            check_names(path, self.metadata, inputs, outputs, {'uint8': 'u8', 'float32': 'f32'})
            if batch is not None and spec.batch is None and spec.height is not None and spec.width is not None:
                model.reshape({spec.name: [batch, *list(model.input(spec.name).partial_shape)[1:]]})
            self._compiled = core.compile_model(model, 'CPU', settings)
        except UserError:
            raise
        except Exception as error:  # RuntimeError and what else comes from its C++ parts
            raise cannot_load(path, 'OpenVINO', error) from None
        self._path = path

    def run(self, batch: np.ndarray) -> list[np.ndarray]:
        """Return the outputs for an input."""
        try:
            found = self._compiled({self.metadata.input.name: batch})
        except Exception as error:  # RuntimeError and what else comes from its C++ parts
            raise fails(self._path, batch, error) from None
        return [found[name] for name in self.metadata.output.names]


@cache
def _core() -> Any:
    """Return the one core of the process.

    A core of its own for each file would not do: each gives the thread another stack for signals and, when it goes,
    puts back the one that it met. Where files are not closed in the reverse order of their opening that is one that is
    freed, and the next signal with a handler in Python would end the process.
    """
    import openvino

    return openvino.Core()


def _rt_info(model: Any, key: str) -> str | None:
    """Return an entry in the runtime information: on top, or where conversion from ONNX puts a file's metadata."""
    for place in ([key], ['framework', key]):
        if model.has_rt_info(place):
            return model.get_rt_info(place).astype(str)
    return None
