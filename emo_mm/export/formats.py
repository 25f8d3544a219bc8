"""The formats: for each one function that writes a file and one that runs it."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emo_mm.errors import UserError, first_line
from emo_mm.export.graph import Graph
from emo_mm.export.options import AXES
from emo_mm.runtime.metadata import KEY, Metadata
from emo_mm.runtime.seal import seal
from emo_mm.runtime.sessions import PRECISION_KEY, open_session

OPSET = 18
Run = Callable[[np.ndarray], Sequence[np.ndarray]]


@dataclass(frozen=True)
class Job:
    """What an exporter gets.

    Attributes:
        graph: The network in its deploy form.
        example: An input to trace with; dynamic axes are 2 or more in it.
        precision: ``float32``, ``half`` or ``int8``.
        calibration: Inputs to calibrate int8 by.
    """

    graph: Graph
    example: Tensor
    precision: str
    calibration: list[np.ndarray]

    @property
    def metadata(self) -> Metadata:
        """The description that the file carries."""
        return self.graph.metadata


@dataclass(frozen=True)
class Format:
    """A format of deployed files.

    Attributes:
        suffix: End of the file's name.
        write: Writes the file.
        open: Returns a function from an input to the outputs, for the path, the description and a number of threads;
            None where the runtime does not exist on this kind of machine.
        modules: What must be importable.
        extra: The extra of the package that installs them; empty if nothing is needed.
        axes: Axes that may stay open.
        precisions: What else than float32 it can be written in.
        carries: Whether the description is inside the file; a sidecar otherwise.
        takes_nms: Whether its runtime can select boxes, whose number depends on what is seen.
        takes_argmax: Whether its runtime can tell the best class of each pixel; a segmenter's logits otherwise.
        companions: Ends of the names of files that belong to it, in the place of ``suffix``.
    """

    suffix: str
    write: Callable[[Job, Path], None]
    open: Callable[[Path, Metadata, int], Run] | None
    modules: tuple[str, ...] = ()
    extra: str = ''
    axes: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()
    carries: bool = True
    takes_nms: bool = False
    takes_argmax: bool = True
    companions: tuple[str, ...] = ()

    def check_available(self, name: str) -> None:
        """Check that what it needs is installed.

        Raises:
            UserError: If not; the message tells how to install it.
        """
        missing = [module for module in self.modules if not _is_importable(module)]
        if missing:
            raise UserError(f"--format {name} needs {', '.join(missing)}: pip install 'emo-mm[{self.extra}]'")

    def files(self, path: Path) -> list[Path]:
        """Return the file, its companions and its sidecar, if they are there."""
        around = [path.with_suffix(suffix) for suffix in self.companions]
        return [file for file in (path, *around, sidecar(path)) if file.exists()]

    def size(self, path: Path) -> int:
        """Return the bytes of a file and its companions."""
        every = [inner for file in self.files(path) for inner in (file.rglob('*') if file.is_dir() else [file])]
        return sum(file.stat().st_size for file in every if file.is_file())


def sidecar(path: Path) -> Path:
    """Return where the description of a file lies that cannot carry it."""
    return path.with_name(f'{path.name}.json')


def write_onnx(job: Job, path: Path) -> None:
    """Write ONNX with the weights inside."""
    import onnx

    model = onnx.load_model_from_string(_plain_onnx(job.graph, job.example))
    if job.precision == 'int8':
        model = _quantized(model, job)
    elif job.precision == 'half':
        from onnxruntime.transformers.float16 import convert_float_to_float16

        model = convert_float_to_float16(model, keep_io_types=True, op_block_list=_FLOAT32_IN_HALF)
    onnx.helper.set_model_props(model, {KEY: job.metadata.to_json()})
    onnx.save(model, path)
    seal(path)


# Coordinates beyond 2048 have no fraction in half precision, and these have no half precision in ONNX Runtime.
_FLOAT32_IN_HALF = ['NonMaxSuppression', 'Resize', 'TopK', 'NonZero', 'Range', 'ScatterND']


def write_openvino(job: Job, path: Path) -> None:
    """Write OpenVINO's ``.xml`` and ``.bin``, from ONNX."""
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / 'plain.onnx'
        plain.write_bytes(_plain_onnx(job.graph, job.example))
        model = openvino.convert_model(plain)
    if job.precision == 'int8':
        model = _quantized(model, job)
    model.set_rt_info(job.metadata.to_json(), KEY)
    if job.precision != 'float32':
        model.set_rt_info(job.precision, PRECISION_KEY)
    openvino.save_model(model, path, compress_to_fp16=job.precision == 'half')
    seal(path)


def open_described(path: Path, metadata: Metadata, threads: int) -> Run:
    """Open a file as prediction does."""
    return open_session(path, threads, metadata.input.batch).run


def write_torch(job: Job, path: Path) -> None:
    """Write a program of ``torch.export``."""
    torch.export.save(program_of(job.graph, job.example), path, extra_files={KEY: job.metadata.to_json()})


def open_torch(path: Path, metadata: Metadata, threads: int) -> Run:
    """Open a program of ``torch.export``."""
    extra = {KEY: ''}
    module = torch.export.load(path, extra_files=extra).module()
    found = Metadata.from_json(extra[KEY], str(path))
    if replace(found, input=replace(found.input, batch=metadata.input.batch)) != metadata:
        raise UserError(f'{path}: its description came back changed')

    def run(batch: np.ndarray) -> list[np.ndarray]:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            with torch.inference_mode():
                return [output.numpy() for output in module(torch.from_numpy(batch))]
        finally:
            torch.set_num_threads(before)

    return run


def program_of(graph: Graph, example: Tensor) -> torch.export.ExportedProgram:
    """Trace a network.

    Args:
        graph: The network; axes that its description leaves open stay open.
        example: An input to trace with.

    Raises:
        UserError: If it cannot be traced, as a head whose shapes fix an axis that shall stay open.
    """
    spec = graph.metadata.input
    order = (0, 1, 2) if spec.layout == 'NHWC' else (0, 2, 3)
    named = {axis: getattr(spec, axis) for axis in AXES}
    dims = {place: torch.export.Dim.DYNAMIC for place, side in zip(order, named.values(), strict=True) if side is None}
    try:
        with torch.no_grad(), quiet():
            return torch.export.export(graph, (example,), dynamic_shapes=(dims,) if dims else None)
    except Exception as error:  # torch has many, most of them for axes that turn out not to be open
        axes = ','.join(axis for axis, side in named.items() if side is None)
        what = f'--dynamic {axes}: {graph.metadata.model} cannot be traced with it' if dims else 'cannot be traced'
        raise UserError(f'{what}: {first_line(error, with_type=True)}') from error


def without_copies(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """Take out of a traced program what only changes the layout in memory, which other runtimes choose themselves."""
    aten = torch.ops.aten
    for node in list(program.graph.nodes):
        if node.target in (aten.contiguous.default, aten.clone.default, aten.alias.default):
            node.replace_all_uses_with(node.args[0])
            program.graph.erase_node(node)
    program.graph_module.recompile()
    return program


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the chatter of tracers off the screen: what is wrong with a file, its check tells."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logging.disable(level)


@lru_cache(maxsize=1)  # several formats and precisions are made of the same one, which takes long to trace
def _plain_onnx(graph: Graph, example: Tensor) -> bytes:
    with tempfile.TemporaryDirectory() as folder, quiet():
        path = Path(folder) / 'plain.onnx'
        exported = torch.onnx.export(
            program_of(graph, example),
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[graph.metadata.input.name],
            output_names=list(graph.metadata.output.names),
            custom_translation_table={torch.ops.aten.remainder.Scalar: _remainder},
            verbose=False,
        )
        assert exported is not None
        exported.save(path, external_data=False)
        return path.read_bytes()


def _remainder(self: Any, other: Any) -> Any:
    """Translate the remainder of integers, whose divisor the exporter takes for a constant: here it is a size."""
    from onnxscript import opset18

    return opset18.Mod(self, opset18.CastLike(other, self))


def _quantized(model: Any, job: Job) -> Any:
    """Return a model in 8 bits, calibrated by NNCF."""
    import nncf

    with quiet():
        return nncf.quantize(
            model,
            nncf.Dataset([{job.metadata.input.name: batch} for batch in job.calibration]),
            subset_size=len(job.calibration),
            model_type=nncf.ModelType.TRANSFORMER,  # leaves softmax and norms of the attention in float
        )


def _is_importable(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package that holds it
        return False


def formats() -> Mapping[str, Format]:
    """Return the formats by name, in the order of their worth."""
    from emo_mm.export.mobile import MOBILE_FORMATS

    return FORMATS | MOBILE_FORMATS


FORMATS = {
    'onnx': Format(
        '.onnx',
        write_onnx,
        open_described,
        modules=('onnx', 'onnxscript', 'onnxruntime'),
        extra='export',
        axes=AXES,
        precisions=('half', 'int8'),
        takes_nms=True,
    ),
    'openvino': Format(
        '.xml',
        write_openvino,
        open_described,
        modules=('onnx', 'onnxscript', 'openvino'),
        extra='export-openvino',
        axes=AXES,
        precisions=('half', 'int8'),
        takes_nms=True,
        companions=('.bin',),
    ),
    'torch': Format('.pt2', write_torch, open_torch, axes=AXES, takes_nms=True),
}
