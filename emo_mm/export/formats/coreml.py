"""Core ML's ``.mlpackage``."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from emo_mm.export.job import Job, program_of, quiet
from emo_mm.runtime.metadata import KEY


def write(job: Job, path: Path) -> None:
    """Write Core ML's ``.mlpackage``."""
    import coremltools

    if path.exists():
        shutil.rmtree(path)  # a package is a folder, which is replaced as a file would be
    precision = coremltools.precision.FLOAT16 if job.precision == 'half' else coremltools.precision.FLOAT32
    with quiet():
        model = coremltools.convert(
            _without_copies(program_of(job.graph, job.example).run_decompositions({})),
            outputs=[coremltools.TensorType(name=name) for name in job.metadata.output.names],
            compute_precision=precision,
            minimum_deployment_target=coremltools.target.iOS16,
        )
        model.user_defined_metadata[KEY] = job.metadata.to_json()
        model.save(str(path))


def _without_copies(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """Take out of a traced program what only changes the layout in memory, which other runtimes choose themselves."""
    aten = torch.ops.aten
    for node in list(program.graph.nodes):
        if node.target in (aten.contiguous.default, aten.clone.default, aten.alias.default):
            node.replace_all_uses_with(node.args[0])
            program.graph.erase_node(node)
    program.graph_module.recompile()
    return program
