"""Formats for phones and boards: one fixed size each, and the description in a sidecar."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from emo_mm.errors import UserError
from emo_mm.export.formats import Format, Job, Run, program_of, quiet, without_copies, write_onnx
from emo_mm.models.pyramid import MobilePyramid
from emo_mm.runtime.metadata import KEY, Metadata


def write_litert(job: Job, path: Path) -> None:
    """Write LiteRT's ``.tflite``."""
    import litert_torch

    with quiet():
        litert_torch.convert(deepcopy(job.graph), (job.example,)).export(str(path))  # a copy: it leaves traces


def open_litert(path: Path, metadata: Metadata, threads: int) -> Run:
    """Open a ``.tflite`` file."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=threads)
    interpreter.allocate_tensors()
    signature = interpreter.get_signature_runner()
    (name,) = signature.get_input_details()

    def run(batch: np.ndarray) -> list[np.ndarray]:
        found = signature(**{name: batch})
        return [found[f'output_{index}'] for index in range(len(metadata.output.names))]

    return run


def write_executorch(job: Job, path: Path) -> None:
    """Write ExecuTorch's ``.pte`` for XNNPACK."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    graph = deepcopy(job.graph)
    for module in list(graph.modules()):
        if isinstance(module, MobilePyramid):
            module.memory_format = torch.contiguous_format
        for name, child in module.named_children():
            if isinstance(child, nn.AdaptiveAvgPool2d) and child.output_size not in (1, (1, 1)):
                setattr(module, name, PoolingByProducts(child.output_size))
    # flatc, which writes the file, is one of ExecuTorch's own programs
    with quiet(), _on_path(Path(sys.executable).parent):
        program = _copied_before_views(program_of(graph, job.example).run_decompositions({}))
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
        path.write_bytes(lowered.to_executorch().buffer)


class PoolingByProducts(nn.Module):
    """Adaptive average pooling as two matrix products: ExecuTorch's runtime has no operator for it.

    Args:
        output_size: Height and width of the answer, None for that of the map, or one number for both.
    """

    def __init__(self, output_size: int | tuple[int | None, int | None] | None) -> None:
        super().__init__()
        self.output_size = output_size if isinstance(output_size, tuple) else (output_size, output_size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the means over the cells of a map, (N, C, H, W) to (N, C, h, w)."""
        rows, columns = (
            _means(have, want or have).to(x) for have, want in zip(x.shape[-2:], self.output_size, strict=True)
        )
        return rows @ x @ columns.T  # (h,H) @ (N,C,H,W) @ (W,w)


def _means(have: int, want: int) -> torch.Tensor:
    """Return the matrix, (want, have), that averages a line over its cells; uneven ones share pixels, as in PyTorch."""
    matrix = torch.zeros(want, have)
    for cell in range(want):
        start, end = cell * have // want, -(-(cell + 1) * have // want)
        matrix[cell, start:end] = 1 / (end - start)
    return matrix


def _copied_before_views(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """Copy what is viewed: ExecuTorch lays maps out anew, and views of the traced layout would not fit."""
    aten = torch.ops.aten
    for node in list(program.graph.nodes):
        if node.target == aten.view.default and not _is_of_linear_layer(node.args[0]):
            with program.graph.inserting_before(node):
                copy = program.graph.call_function(
                    aten.clone.default, (node.args[0],), {'memory_format': torch.contiguous_format}
                )
            copy.meta = {**node.args[0].meta, 'val': node.args[0].meta['val'].contiguous()}
            node.replace_input_with(node.args[0], copy)
    program.graph_module.recompile()
    return program


def _is_of_linear_layer(node: torch.fx.Node) -> bool:
    """Tell a linear layer's answer or its activation: its layout stays, and XNNPACK refuses two copies of it."""
    aten = torch.ops.aten
    if node.target in (aten.gelu.default, aten.silu.default):
        node = node.args[0]  # type: ignore[assignment]
    return node.target == aten.linear.default


def open_executorch(path: Path, metadata: Metadata, threads: int) -> Run:
    """Open a ``.pte`` file; its runtime takes its threads from the process."""
    from executorch.runtime import Runtime

    method = Runtime.get().load_program(path).load_method('forward')
    return lambda batch: [output.numpy().copy() for output in method.execute([torch.from_numpy(batch)])]


def write_ncnn(job: Job, path: Path) -> None:
    """Write ncnn's ``.param`` and ``.bin``, through PNNX, which writes more files beside them."""
    import pnnx

    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / 'graph.pt'
        with torch.no_grad(), quiet():
            # a copy: what modules remember of a trace, other tracers trip over
            torch.jit.trace(deepcopy(job.graph), (job.example,), check_trace=False).save(str(script))
        shape = ','.join(map(str, job.example.shape))
        half = int(job.precision == 'half')
        command = [pnnx.EXEC_PATH, str(script), f'inputshape=[{shape}]f32', f'fp16={half}']
        _call(command, folder)
        for suffix in ('.param', '.bin'):
            shutil.move(str(Path(folder) / f'graph.ncnn{suffix}'), path.with_suffix(suffix))


def open_ncnn(path: Path, metadata: Metadata, threads: int) -> Run:
    """Open ncnn's files, which have no batch."""
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_storage = False
    if net.load_param(str(path)) != 0 or net.load_model(str(path.with_suffix('.bin'))) != 0:
        raise UserError(f'{path}: ncnn cannot load it')

    rank = {'boxes': 3, 'labels': 3, 'logits': 4, 'probabilities': 2}[metadata.output.kind]

    def run(batch: np.ndarray) -> list[np.ndarray]:
        with net.create_extractor() as extractor:
            extractor.input('in0', ncnn.Mat(batch[0]).clone())
            found = [extractor.extract(f'out{index}') for index in range(len(metadata.output.names))]
        if any(code != 0 for code, _ in found):
            raise UserError(f'{path}: ncnn cannot run it')
        # its maps have no batch, and some a leading 1 for it
        arrays = [np.array(mat) for _, mat in found]
        return [array.reshape(1, *array.shape[array.ndim + 1 - rank :]) for array in arrays]

    return run


def write_mnn(job: Job, path: Path) -> None:
    """Write MNN's ``.mnn``, from ONNX."""
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / 'plain.onnx'
        write_onnx(replace(job, precision='float32'), plain)
        code = 'import sys; from MNN.tools.mnnconvert import main; sys.exit(main())'
        command = [
            sys.executable,
            '-c',
            code,
            '-f',
            'ONNX',
            '--modelFile',
            str(plain),
            '--MNNModel',
            str(path.resolve()),
        ]
        _call([*command, '--bizCode', KEY, *(['--fp16'] if job.precision == 'half' else [])], folder)


def open_mnn(path: Path, metadata: Metadata, threads: int) -> Run:
    """Open an ``.mnn`` file."""
    import MNN

    runtime = MNN.nn.create_runtime_manager(({'backend': 'CPU', 'precision': 'high', 'numThread': threads},))
    net = MNN.nn.load_module_from_file(
        str(path), [metadata.input.name], list(metadata.output.names), runtime_manager=runtime
    )

    def run(batch: np.ndarray) -> list[np.ndarray]:
        kind = MNN.expr.NHWC if metadata.input.layout == 'NHWC' else MNN.expr.NCHW
        dtype = MNN.expr.uint8 if batch.dtype == np.uint8 else MNN.expr.float
        placed = MNN.expr.placeholder(list(batch.shape), kind, dtype)
        placed.write(batch)
        # NC4HW4 is MNN's own layout of maps
        outputs = [MNN.expr.convert(output, MNN.expr.NCHW) for output in net.forward([placed])]
        return [np.array(output.read()) for output in outputs]

    return run


def write_coreml(job: Job, path: Path) -> None:
    """Write Core ML's ``.mlpackage``."""
    import coremltools

    if path.exists():
        shutil.rmtree(path)  # a package is a folder, which is replaced as a file would be
    precision = coremltools.precision.FLOAT16 if job.precision == 'half' else coremltools.precision.FLOAT32
    with quiet():
        model = coremltools.convert(
            without_copies(program_of(job.graph, job.example).run_decompositions({})),
            outputs=[coremltools.TensorType(name=name) for name in job.metadata.output.names],
            compute_precision=precision,
            minimum_deployment_target=coremltools.target.iOS16,
        )
        model.user_defined_metadata[KEY] = job.metadata.to_json()
        model.save(str(path))


def _call(command: list[str], folder: str) -> None:
    """Run a converter that is a program: of the exporter's own, without a shell.

    Raises:
        RuntimeError: If it fails; the message ends with what it said last.
    """
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # nosec B603
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip().splitlines()
        raise RuntimeError(f'{Path(command[0]).name} ended with {done.returncode}: {said[-1] if said else "silently"}')


@contextmanager
def _on_path(*folders: Path) -> Iterator[None]:
    """Let programs of these folders be found."""
    before = os.environ.get('PATH', '')
    os.environ['PATH'] = os.pathsep.join([*map(str, folders), before])
    try:
        yield
    finally:
        os.environ['PATH'] = before


MOBILE_FORMATS = {
    'litert': Format(
        '.tflite', write_litert, open_litert, ('litert_torch', 'ai_edge_litert'), 'export-litert', carries=False
    ),
    'executorch': Format(
        '.pte', write_executorch, open_executorch, ('executorch',), 'export-executorch', carries=False
    ),
    'ncnn': Format(
        '.param',
        write_ncnn,
        open_ncnn,
        ('ncnn', 'pnnx'),
        'export-ncnn',
        precisions=('half',),
        carries=False,
        takes_argmax=False,
        companions=('.bin',),
    ),
    'mnn': Format(
        '.mnn',
        write_mnn,
        open_mnn,
        ('onnx', 'onnxscript', 'onnxruntime', 'MNN'),
        'export-mnn',
        precisions=('half',),
        carries=False,
    ),
    'coreml': Format('.mlpackage', write_coreml, None, ('coremltools',), 'export-coreml', precisions=('half',)),
}
