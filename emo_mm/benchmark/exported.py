"""Exported networks as contestants: the same raw outputs, from another runtime."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from emo_mm.export.formats.onnx import OPSET
from emo_mm.export.job import quiet

Network = Callable[[Tensor], list[np.ndarray]]


class _Flat(nn.Module):
    """A network whose nested outputs come as one tuple of tensors."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Any, ...]:
        return tuple(leaf for leaf in tree_leaves(self.model(images)) if isinstance(leaf, Tensor))


def onnx_network(model: nn.Module, images: Tensor, threads: int) -> Network:
    """Return a network that runs in ONNX Runtime.

    Args:
        model: The network, in the form in which it is exported.
        images: A batch of the shape that it will get, (N, 3, H, W).
        threads: Threads of an operator.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        path = _write_onnx(model, images, Path(folder))
        session = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
    name = session.get_inputs()[0].name
    return lambda batch: session.run(None, {name: batch.numpy()})


def openvino_network(model: nn.Module, images: Tensor, threads: int) -> Network:
    """Return a network that runs in OpenVINO, in float32, for the arguments of :func:`onnx_network`."""
    import openvino

    settings = {'INFERENCE_PRECISION_HINT': 'f32', 'PERFORMANCE_HINT': 'LATENCY', 'INFERENCE_NUM_THREADS': threads}
    with tempfile.TemporaryDirectory() as folder:
        compiled = openvino.Core().compile_model(_write_onnx(model, images, Path(folder)), 'CPU', settings)
    request = compiled.create_infer_request()
    return lambda batch: list(request.infer([batch.numpy()], share_inputs=True, share_outputs=True).values())


def _write_onnx(model: nn.Module, images: Tensor, folder: Path) -> Path:
    path = folder / 'network.onnx'
    with torch.no_grad(), quiet():
        program = torch.export.export(_Flat(model).eval(), (images,))
        exported = torch.onnx.export(program, (images,), dynamo=True, opset_version=OPSET, verbose=False)
        assert exported is not None
        exported.save(path, external_data=False)
    return path
