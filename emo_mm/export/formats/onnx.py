"""ONNX, with the weights inside."""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from emo_mm.export.graph import Graph
from emo_mm.export.job import Job, program_of, quantized, quiet
from emo_mm.runtime.metadata import KEY

OPSET = 18
# Coordinates beyond 2048 have no fraction in half precision, and these have no half precision in ONNX Runtime.
_FLOAT32_IN_HALF = ['NonMaxSuppression', 'Resize', 'TopK', 'NonZero', 'Range', 'ScatterND']


def write(job: Job, path: Path) -> None:
    """Write ONNX with the weights inside."""
    import onnx

    model = onnx.load_model_from_string(plain_onnx(job))
    if job.precision == 'int8':
        model = quantized(model, job)
    elif job.precision == 'half':
        from onnxruntime.transformers.float16 import convert_float_to_float16

        model = convert_float_to_float16(model, keep_io_types=True, op_block_list=_FLOAT32_IN_HALF)
        _drop_twins(model)
    onnx.helper.set_model_props(model, {KEY: job.metadata.to_json()})
    onnx.save(model, path)


def plain_onnx(job: Job) -> bytes:
    """Return a job's network as ONNX in float32, without a description; other formats are made of it."""
    return _exported(job.graph, job.example)


@lru_cache(maxsize=1)  # several formats and precisions are made of the same one, which takes long to trace
def _exported(graph: Graph, example: Tensor) -> bytes:
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


def _drop_twins(model: Any) -> None:
    """Drop nodes that a converter wrote twice: it converts a value anew for each node that reads it, by one name."""
    first = {tuple(node.output): node for node in reversed(model.graph.node)}
    kept = [node for node in model.graph.node if first[tuple(node.output)] is node]
    model.graph.ClearField('node')
    model.graph.node.extend(kept)


def _remainder(self: Any, other: Any) -> Any:
    """Translate the remainder of integers, whose divisor the exporter takes for a constant: here it is a size."""
    from onnxscript import opset18

    return opset18.Mod(self, opset18.CastLike(other, self))
