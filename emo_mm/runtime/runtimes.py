"""The runtimes of deployed files: one row each, found by the end of the file's name.

Only the standard library is imported, so that any room may ask; the module that opens a file is imported when one is
opened.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Runtime:
    """What runs deployed files of one kind.

    Attributes:
        suffix: End of the file's name.
        name: Of the runtime, for messages and documents.
        session: ``module:class`` of its :class:`~emo_mm.runtime.sessions.session.Session`, which is made of the path, a
            number of threads and the batch; empty where the runtime has no Python interface on this kind of machine.
        modules: What must be importable.
        extra: The extra of the package that installs them.
        companions: Ends of the names of files that belong to it, in the place of ``suffix``.
        checksum: Where the file's checksum stands: at its ``end``, in the ``sidecar`` that describes it, or where the
            format has its ``own``.
        needs: What keeps it from running here, where there is no session.
    """

    suffix: str
    name: str
    session: str
    modules: tuple[str, ...]
    extra: str
    companions: tuple[str, ...] = ()
    checksum: Literal['end', 'sidecar', 'own'] = 'sidecar'
    needs: str = ''


_ROWS = (
    Runtime(
        '.onnx',
        'ONNX Runtime',
        'emo_mm.runtime.sessions.onnx:OnnxRuntimeSession',
        modules=('onnxruntime',),
        extra='runtime',
        checksum='end',
    ),
    Runtime(
        '.xml',
        'OpenVINO',
        'emo_mm.runtime.sessions.openvino:OpenVINOSession',
        modules=('openvino',),
        extra='openvino',
        companions=('.bin',),
        checksum='end',
    ),
    Runtime(
        '.pt2',
        'PyTorch',
        'emo_mm.predict.torch_program:TorchProgramSession',
        modules=('torch', 'torchvision'),
        extra='torch',
        checksum='own',
    ),
    Runtime(
        '.tflite',
        'LiteRT',
        'emo_mm.runtime.sessions.litert:LiteRTSession',
        modules=('ai_edge_litert',),
        extra='litert',
    ),
    Runtime(
        '.pte',
        'ExecuTorch',
        'emo_mm.predict.executorch_program:ExecuTorchSession',
        modules=('executorch',),
        extra='executorch',
    ),
    Runtime(
        '.param',
        'ncnn',
        'emo_mm.runtime.sessions.ncnn:NcnnSession',
        modules=('ncnn',),
        extra='ncnn',
        companions=('.bin',),
    ),
    Runtime('.mnn', 'MNN', 'emo_mm.runtime.sessions.mnn:MNNSession', modules=('MNN',), extra='mnn'),
    Runtime(
        '.mlpackage',
        'Core ML',
        session='',
        modules=(),
        extra='',
        checksum='own',
        needs='Core ML runs on macOS only, where its own tools open the file',
    ),
)
RUNTIMES: dict[str, Runtime] = {row.suffix: row for row in _ROWS}


def runtime_of(path: str | Path) -> Runtime | None:
    """Return the runtime of a file by its name; None if it is no deployed file."""
    return RUNTIMES.get(Path(path).suffix.lower())


def is_deployed(path: str | Path) -> bool:
    """Tell by its name whether a file is a deployed one."""
    return runtime_of(path) is not None


def runnable_suffixes() -> tuple[str, ...]:
    """Return the ends of the names of files that prediction runs."""
    return tuple(row.suffix for row in RUNTIMES.values() if row.session)
