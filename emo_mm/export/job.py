"""What an exporter gets, and the tracing that several share."""

from __future__ import annotations

import logging
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emo_mm.errors import UserError, first_line
from emo_mm.export.graph import Graph
from emo_mm.export.options import AXES
from emo_mm.runtime.metadata import Metadata


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


def quantized(model: Any, job: Job) -> Any:
    """Return a model in 8 bits, calibrated by NNCF."""
    import nncf

    with quiet():
        return nncf.quantize(
            model,
            nncf.Dataset([{job.metadata.input.name: batch} for batch in job.calibration]),
            subset_size=len(job.calibration),
            model_type=nncf.ModelType.TRANSFORMER,  # leaves softmax and norms of the attention in float
        )


def call(command: list[str], folder: str) -> None:
    """Run a converter that is a program: of the exporter's own, without a shell.

    Raises:
        RuntimeError: If it fails; the message ends with what it said last.
    """
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # nosec B603
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip().splitlines()
        raise RuntimeError(f'{Path(command[0]).name} ended with {done.returncode}: {said[-1] if said else "silently"}')
