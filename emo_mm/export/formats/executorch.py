"""ExecuTorch's ``.pte`` for XNNPACK."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

import torch
from torch import nn

from emo_mm.export.job import Job, program_of, quiet
from emo_mm.models.pyramid import MobilePyramid


def write(job: Job, path: Path) -> None:
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


@contextmanager
def _on_path(*folders: Path) -> Iterator[None]:
    """Let programs of these folders be found."""
    before = os.environ.get('PATH', '')
    os.environ['PATH'] = os.pathsep.join([*map(str, folders), before])
    try:
        yield
    finally:
        os.environ['PATH'] = before
