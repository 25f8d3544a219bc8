"""The formats of deployed files: one row each, in the order of their worth.

Only the standard library is imported, so that the command line and documents may ask; the module that writes a format
is imported when one is written.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from emo_mm.errors import UserError
from emo_mm.export.options import AXES
from emo_mm.runtime.runtimes import RUNTIMES, Runtime
from emo_mm.runtime.seal import sidecar

if TYPE_CHECKING:
    from emo_mm.export.job import Job


@dataclass(frozen=True)
class Format:
    """A format of deployed files. What runs them is the row of ``suffix`` in ``RUNTIMES``.

    Attributes:
        name: What ``--format`` calls it.
        suffix: End of the file's name.
        writer: ``module:function`` that writes a file, given a :class:`~emo_mm.export.job.Job` and the path.
        modules: What must be importable to write it.
        extra: The extra of the package that installs them; empty if nothing is needed.
        axes: Axes that may stay open.
        precisions: What else than float32 it can be written in.
        takes_nms: Whether its runtime can select boxes, whose number depends on what is seen.
        takes_argmax: Whether its runtime can tell the best class of each pixel; a segmenter's logits otherwise.
        note: What is to know of the file, for the documentation.
    """

    name: str
    suffix: str
    writer: str
    modules: tuple[str, ...] = ()
    extra: str = ''
    axes: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()
    takes_nms: bool = False
    takes_argmax: bool = True
    note: str = ''

    @property
    def runtime(self) -> Runtime:
        """What runs its files."""
        return RUNTIMES[self.suffix]

    @property
    def write(self) -> Callable[[Job, Path], None]:
        """The function that writes a file, whose module is imported now."""
        return resolve_name(self.writer)

    def check_available(self) -> None:
        """Check that what writes it is installed.

        Raises:
            UserError: If not; the message tells how to install it.
        """
        missing = [module for module in self.modules if not _is_importable(module)]
        if missing:
            raise UserError(f"--format {self.name} needs {', '.join(missing)}: pip install 'emo-mm[{self.extra}]'")

    def files(self, path: Path) -> list[Path]:
        """Return the file, its companions and its sidecar, if they are there."""
        around = [path.with_suffix(suffix) for suffix in self.runtime.companions]
        return [file for file in (path, *around, sidecar(path)) if file.exists()]

    def size(self, path: Path) -> int:
        """Return the bytes of a file and its companions."""
        every = [inner for file in self.files(path) for inner in (file.rglob('*') if file.is_dir() else [file])]
        return sum(file.stat().st_size for file in every if file.is_file())


def format_names() -> str:
    """Return the names of the formats, for the help of ``--format``: "onnx, openvino or coreml"."""
    *others, last = FORMATS
    return f'{", ".join(others)} or {last}'


def format_like(name: str) -> str | None:
    """Return the format that a name stands for elsewhere: the suffix of its files, or their runtime; None if none."""
    plain = name.lower().lstrip('.').replace(' ', '')
    for row in FORMATS.values():
        if plain in (row.suffix.lstrip('.'), row.runtime.name.lower().replace(' ', '')):
            return row.name
    near = difflib.get_close_matches(plain, FORMATS, n=1)
    return near[0] if near else None


def _is_importable(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package that holds it
        return False


_ROWS = (
    Format(
        'onnx',
        '.onnx',
        'emo_mm.export.formats.onnx:write',
        modules=('onnx', 'onnxscript', 'onnxruntime'),
        extra='export',
        axes=AXES,
        precisions=('half', 'int8'),
        takes_nms=True,
        note='opset 18, weights inside',
    ),
    Format(
        'openvino',
        '.xml',
        'emo_mm.export.formats.openvino:write',
        modules=('onnx', 'onnxscript', 'openvino'),
        extra='export-openvino',
        axes=AXES,
        precisions=('half', 'int8'),
        takes_nms=True,
    ),
    Format(
        'torch',
        '.pt2',
        'emo_mm.export.formats.torch:write',
        axes=AXES,
        takes_nms=True,
        note='of `torch.export`; height and width may stay open where tracing assumes nothing',
    ),
    Format(
        'litert',
        '.tflite',
        'emo_mm.export.formats.litert:write',
        modules=('litert_torch', 'ai_edge_litert'),
        extra='export-litert',
        note='the exporter brings jax',
    ),
    Format(
        'executorch',
        '.pte',
        'emo_mm.export.formats.executorch:write',
        modules=('executorch',),
        extra='export-executorch',
        note='for XNNPACK',
    ),
    Format(
        'ncnn',
        '.param',
        'emo_mm.export.formats.ncnn:write',
        modules=('ncnn', 'pnnx'),
        extra='export-ncnn',
        precisions=('half',),
        takes_argmax=False,
        note='one image',
    ),
    Format(
        'mnn',
        '.mnn',
        'emo_mm.export.formats.mnn:write',
        modules=('onnx', 'onnxscript', 'onnxruntime', 'MNN'),
        extra='export-mnn',
        precisions=('half',),
    ),
    Format(
        'coreml',
        '.mlpackage',
        'emo_mm.export.formats.coreml:write',
        modules=('coremltools',),
        extra='export-coreml',
        precisions=('half',),
    ),
)
FORMATS: dict[str, Format] = {row.name: row for row in _ROWS}
