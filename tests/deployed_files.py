"""Small deployed files that describe themselves, whose answers can be told by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from emo_mm.runtime.metadata import KEY, Metadata
from emo_mm.runtime.seal import seal

# Eight anchors at 64x48, six and two to a level; the second overlaps the first, of the third one half is outside.
BOXES = np.array(
    [
        [4, 4, 20, 20],
        [5, 4, 21, 20],
        [50, 30, 80, 60],
        [30, 10, 40, 40],
        [0, 0, 10, 10],
        [8, 8, 9, 9],
        [0, 0, 64, 48],
        [32, 24, 64, 48],
    ],
    np.float32,
)
# Logits of two classes, to which the mean of the input is added.
LOGITS = np.array([[2, -9], [1, -9], [-9, 0], [-9, 1.5], [-9, -9], [-9, -9], [-2, -9], [-9, -9]], np.float32)


def write_onnx(path: Path, metadata: Metadata, describe: bool = True) -> Path:
    """Write a graph for the outputs that a description promises.

    - boxes: ``BOXES``, with scores sigmoid(``LOGITS`` + mean of the input);
    - logits: red and green of the input;
    - labels: 1 where green is above red;
    - probabilities: softmax of the mean red and green.
    """
    onnx = pytest.importorskip('onnx')
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    spec, names = metadata.input, metadata.output.names
    shape = [spec.batch or 'batch', 3, spec.height or 'height', spec.width or 'width']
    constants = {
        'boxes_of_anchors': BOXES[None],
        'logits_of_anchors': LOGITS[None],
        'all_but_batch': np.array([1, 2, 3]),
        'of_map': np.array([2, 3]),
        'flat': np.array([-1, 1, 1]),
        'two': np.array([0, 1]),
        'zero': np.zeros(1, np.float32),
        'red': np.array([0]),
        'green': np.array([1]),
        'axis': np.array([1]),
    }
    node = helper.make_node
    nodes = {
        'boxes': lambda: [
            node('ReduceMean', [spec.name, 'all_but_batch'], ['mean'], keepdims=0),
            node('Reshape', ['mean', 'flat'], ['column']),
            node('Add', ['column', 'logits_of_anchors'], ['logits']),
            node('Sigmoid', ['logits'], [names[1]]),
            node('Mul', ['column', 'zero'], ['nothing']),
            node('Add', ['nothing', 'boxes_of_anchors'], [names[0]]),
        ],
        'logits': lambda: [node('Gather', [spec.name, 'two'], [names[0]], axis=1)],
        'labels': lambda: [
            node('Gather', [spec.name, 'two'], ['pair'], axis=1),
            node('ArgMax', ['pair'], [names[0]], axis=1, keepdims=0),
        ],
        'probabilities': lambda: [
            node('Gather', [spec.name, 'two'], ['pair'], axis=1),
            node('ReduceMean', ['pair', 'of_map'], ['means'], keepdims=0),
            node('Softmax', ['means'], [names[0]], axis=1),
        ],
    }[metadata.output.kind]()
    used = {name for made in nodes for name in made.input}
    kind = onnx.TensorProto.INT64 if metadata.output.kind == 'labels' else onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        'test',
        [helper.make_tensor_value_info(spec.name, onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, kind, None) for name in names],
        [numpy_helper.from_array(value, name) for name, value in constants.items() if name in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 18)], ir_version=10)
    if describe:
        helper.set_model_props(model, {KEY: metadata.to_json()})
    onnx.save(model, path)
    seal(path)
    return path


def write_program(path: Path, metadata: Metadata) -> Path:
    """Write a program of ``torch.export`` for any batch: softmax of the mean red and green."""
    import torch

    class RedOrGreen(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer('scale', torch.ones(1))

        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor]:
            return ((images[:, :2].mean((2, 3)) * self.scale).softmax(-1),)

    spec = metadata.input
    example = (torch.zeros(2, 3, spec.height or 48, spec.width or 64),)
    program = torch.export.export(RedOrGreen(), example, dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    torch.export.save(program, path, extra_files={KEY: metadata.to_json()})
    return path
