"""Deployed files in their runtimes, behind one interface."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from emo_mm.errors import UserError, first_line
from emo_mm.machine import available_cores
from emo_mm.runtime.metadata import KEY, MAX_TEXT, Metadata
from emo_mm.runtime.seal import check_seal

PRECISION_KEY = f'{KEY}_precision'  # of OpenVINO's files in less than full precision


class Session(Protocol):
    """A network that is ready to run.

    Attributes:
        metadata: The description of its input and outputs.
    """

    metadata: Metadata

    def run(self, batch: np.ndarray) -> list[np.ndarray]:
        """Return the outputs for an input, in the order of ``metadata.output.names``.

        Raises:
            UserError: If the network fails on it.
        """


def open_session(path: str | Path, threads: int | None = None, batch: int | None = None) -> Session:
    """Open a deployed file.

    Args:
        path: ``.onnx``, or ``.xml`` of OpenVINO.
        threads: Threads of the runtime; all cores that this process may use if None.
        batch: Images at once that a file of any batch will always get, where this is known: OpenVINO is faster then.

    Raises:
        UserError: If it is no such file, is damaged, describes itself wrongly, or its runtime is missing.
    """
    path = Path(path)
    kind = SESSIONS.get(path.suffix.lower())
    if kind is None:
        raise UserError(f'{path}: deployed files end in {" or ".join(SESSIONS)}')
    if not path.is_file():
        raise UserError(f'{path}: there is no such file')
    return kind(path, threads or available_cores(), batch)


def is_deployed(path: str | Path) -> bool:
    """Tell by its name whether a file is a deployed one."""
    return Path(path).suffix.lower() in SESSIONS


class OnnxRuntimeSession:
    """An ONNX file in ONNX Runtime, on the CPU.

    Args:
        path: The file.
        threads: Threads of an operator.
        batch: Of no consequence here.

    Raises:
        UserError: As :func:`open_session`.
    """

    def __init__(self, path: Path, threads: int, batch: int | None = None) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise UserError(f"{path} needs ONNX Runtime: pip install 'emo-mm[runtime]'") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4  # fatal: errors are raised too
        check_seal(path)
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
        except Exception as error:  # the runtime's own types, one per kind of fault
            raise UserError(f'{path}: ONNX Runtime cannot load it: {first_line(error)}') from None
        self._path = path
        self.metadata = described(self._session.get_modelmeta().custom_metadata_map.get(KEY), path)
        inputs = {tensor.name: tensor.type for tensor in self._session.get_inputs()}
        types = {'uint8': 'tensor(uint8)', 'float32': 'tensor(float)'}
        _check_names(path, self.metadata, inputs, {tensor.name for tensor in self._session.get_outputs()}, types)

    def run(self, batch: np.ndarray) -> list[np.ndarray]:
        """Return the outputs for an input."""
        try:
            return self._session.run(list(self.metadata.output.names), {self.metadata.input.name: batch})
        except Exception as error:  # the runtime's own types
            raise _fails(self._path, batch, error) from None


class OpenVINOSession:
    """An OpenVINO file, on the CPU.

    Args:
        path: The ``.xml`` file; its ``.bin`` lies beside.
        threads: Threads.
        batch: Images at once, which a file of any batch is fixed to; None leaves it open.

    Raises:
        UserError: As :func:`open_session`.
    """

    def __init__(self, path: Path, threads: int, batch: int | None = None) -> None:
        try:
            core = _openvino_core()
        except ImportError:
            raise UserError(f"{path} needs OpenVINO: pip install 'emo-mm[openvino]'") from None
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
            _check_names(path, self.metadata, inputs, outputs, {'uint8': 'u8', 'float32': 'f32'})
            if batch is not None and spec.batch is None and spec.height is not None and spec.width is not None:
                model.reshape({spec.name: [batch, *list(model.input(spec.name).partial_shape)[1:]]})
            self._compiled = core.compile_model(model, 'CPU', settings)
        except UserError:
            raise
        except Exception as error:  # RuntimeError and what else comes from its C++ parts
            raise UserError(f'{path}: OpenVINO cannot load it: {first_line(error)}') from None
        self._path = path

    def run(self, batch: np.ndarray) -> list[np.ndarray]:
        """Return the outputs for an input."""
        try:
            found = self._compiled({self.metadata.input.name: batch})
        except Exception as error:  # RuntimeError and what else comes from its C++ parts
            raise _fails(self._path, batch, error) from None
        return [found[name] for name in self.metadata.output.names]


@cache
def _openvino_core() -> Any:
    """Return the one core of the process.

    A core of its own for each file would not do: each gives the thread another stack for signals and, when it goes,
    puts back the one that it met. Where files are not closed in the reverse order of their opening that is one that is
    freed, and the next signal with a handler in Python would end the process.
    """
    import openvino

    return openvino.Core()


SESSIONS: Mapping[str, Callable[[Path, int, int | None], Session]] = {
    '.onnx': OnnxRuntimeSession,
    '.xml': OpenVINOSession,
}


def described(text: str | None, path: Path) -> Metadata:
    """Return the description that a file holds, or that lies beside it in ``<file>.json``.

    Raises:
        UserError: If there is none, or it is wrong.
    """
    sidecar = path.with_name(f'{path.name}.json')
    if text is None and sidecar.is_file():
        with sidecar.open(encoding='utf-8', errors='replace') as file:
            text = file.read(MAX_TEXT + 1)  # more than can be used is refused below
    if text is None:
        raise UserError(
            f'{path}: does not describe itself and has no {sidecar.name} beside it: make it by emo-mm export'
        )
    return Metadata.from_json(text, str(path))


def _rt_info(model: Any, key: str) -> str | None:
    """Return an entry in the runtime information: on top, or where conversion from ONNX puts a file's metadata."""
    for place in ([key], ['framework', key]):
        if model.has_rt_info(place):
            return model.get_rt_info(place).astype(str)
    return None


def _check_names(
    path: Path, metadata: Metadata, inputs: Mapping[str, str], outputs: set[str], types: Mapping[str, str]
) -> None:
    spec = metadata.input
    if inputs.get(spec.name) != types[spec.dtype]:
        raise UserError(f'{path}: the graph has the inputs {dict(inputs)}, its description {spec.name}: {spec.dtype}')
    missing = [name for name in metadata.output.names if name not in outputs]
    if missing:
        raise UserError(f'{path}: the graph lacks the outputs {", ".join(missing)} of its description')


def _fails(path: Path, batch: np.ndarray, error: Exception) -> UserError:
    size = ' x '.join(map(str, batch.shape))
    return UserError(f'{path}: fails in its runtime with an input of {size}: {first_line(error)}')
