"""Small deployed files that describe themselves, whose answers can be told by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from emo_mm.runtime.metadata import KEY, OUTPUT_NAMES, Metadata
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
# Layers of 3 inputs (column, row and the one prototype) to 2 channels and to 1: weights, then biases. Cells have 8
# pixels, and values are interpolated between their middles: the first object, 1 - column, is where pixels are left of
# 12, the fourth, 2 - row, where they are above 20; the third is everywhere, the others nowhere.
KERNELS = np.zeros((8, 11), np.float32)
KERNELS[:, [0, 4]] = 1  # the channels are x and y
KERNELS[:, 10] = -1
KERNELS[0, [6, 10]] = -1, 1
KERNELS[2, 10] = 1
KERNELS[3, [7, 10]] = -1, 2
PROTOTYPES = np.ones((1, 6, 8), np.float32)

# What NMS in the graph leaves: three boxes, the second none.
FOUND = np.array([[4, 4, 20, 20, 0.5], [0, 0, 64, 48, 0.4], [30, 10, 40, 40, 0.75]], np.float32)
FOUND_LABELS = np.array([0, -1, 1])
# Their masks, over the input or over each box: the left half, everywhere, the upper half.
HALVES = np.full((3, 4, 4), 4, np.float32)
HALVES[0, :, 2:] = -4
HALVES[2, 2:] = -4


def write_onnx(path: Path, metadata: Metadata, describe: bool = True) -> Path:
    """Write a graph for the outputs that a description promises.

    - boxes: ``BOXES``, with scores sigmoid(``LOGITS`` + mean of the input);
    - instances: likewise, with ``KERNELS`` and ``PROTOTYPES``;
    - masks, roi_masks: ``FOUND``, ``FOUND_LABELS`` and ``HALVES``;
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
        'kernels_of_anchors': KERNELS[None],
        'prototype_maps': PROTOTYPES[None],
        'found': FOUND[None],
        'found_labels': FOUND_LABELS[None],
        'found_masks': HALVES[None],
        'matrix': np.array([-1, 1]),
        'maps': np.array([-1, 1, 1, 1]),
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

    def mean() -> list:
        """``column``, the mean of each image, and nothing as (N, 1, 1), (N, 1, 1, 1) and whole numbers (N, 1)."""
        return [
            node('ReduceMean', [spec.name, 'all_but_batch'], ['mean'], keepdims=0),
            node('Reshape', ['mean', 'flat'], ['column']),
            node('Mul', ['column', 'zero'], ['nothing']),
            node('Reshape', ['nothing', 'maps'], ['no_maps']),
            node('Reshape', ['nothing', 'matrix'], ['no_matrix']),
            node('Cast', ['no_matrix'], ['no_labels'], to=onnx.TensorProto.INT64),
        ]

    def by_anchor() -> list:
        return [
            *mean(),
            node('Add', ['column', 'logits_of_anchors'], ['logits']),
            node('Sigmoid', ['logits'], [names[1]]),
            node('Add', ['nothing', 'boxes_of_anchors'], [names[0]]),
        ]

    def selected() -> list:
        return [
            *mean(),
            node('Add', ['nothing', 'found'], [names[0]]),
            node('Add', ['no_labels', 'found_labels'], [names[1]]),
            node('Add', ['no_maps', 'found_masks'], [names[2]]),
        ]

    nodes = {
        'boxes': by_anchor,
        'instances': lambda: [
            *by_anchor(),
            node('Add', ['nothing', 'kernels_of_anchors'], [names[2]]),
            node('Add', ['no_maps', 'prototype_maps'], [names[3]]),
        ],
        'masks': selected,
        'roi_masks': selected,
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
    whole = OUTPUT_NAMES[metadata.output.kind].index('labels') if 'labels' in OUTPUT_NAMES[metadata.output.kind] else -1
    kinds = [onnx.TensorProto.INT64 if i == whole else onnx.TensorProto.FLOAT for i in range(len(names))]
    graph = helper.make_graph(
        nodes,
        'test',
        [helper.make_tensor_value_info(spec.name, onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in zip(names, kinds, strict=True)],
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
