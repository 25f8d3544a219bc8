"""Parameters and multiply-adds of a model, the matrix products of attention included."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

COUNTER = 'torch.utils.flop_counter'

_aten = torch.ops.aten
# Multiply-adds per element of the input, for each operator that a norm may become; the counter leaves norms out.
_NORM_MACS = {
    _aten.native_batch_norm: 2,
    _aten._native_batch_norm_legit_no_training: 2,
    _aten.native_layer_norm: 5,
    _aten.native_group_norm: 5,
}
_NORM_NAMES = frozenset(op.__name__ for op in _NORM_MACS)


@dataclass(frozen=True)
class Complexity:
    """What a model costs for one set of inputs.

    Attributes:
        params: Parameters of all modules, trainable or not, also of those that the inputs do not reach.
        macs: Multiply-adds by the convention of fvcore, which the published figures follow: the multiplications of
            convolutions, linear layers and matrix products, 2 per element of a BatchNorm and 5 per element of a
            LayerNorm or GroupNorm; nothing for biases, activations, pooling and resizing.
        by_operator: ``macs`` of each operator of torch, such as ``convolution``; EMO's attention is all of ``bmm``.
        by_module: ``macs`` of each module that was called, by its dotted name; ``''`` is the whole.
    """

    params: int
    macs: int
    by_operator: dict[str, int]
    by_module: dict[str, int]

    @property
    def product_macs(self) -> int:
        """The part of ``macs`` in convolutions, linear layers and matrix products, norms left out."""
        return sum(macs for name, macs in self.by_operator.items() if name not in _NORM_NAMES)


def count(model: nn.Module, *inputs: Tensor) -> Complexity:
    """Count the parameters of a model and the multiply-adds of ``model(*inputs)`` in eval mode.

    Nothing is computed: a copy of the model runs on the meta device, in a fraction of a second whatever the input
    size. The model itself stays as it is. Detectors, segmenters and classifiers of OpenMMLab run their network alone
    when called so: heads included, without post-processing and without auxiliary heads.

    Args:
        model: Any module.
        inputs: Tensors with the shapes and dtypes of the inputs; their device and values do not matter.
    """
    copy = deepcopy(model).to('meta').eval()
    counter = FlopCounterMode(display=False, custom_mapping={op: _norm_flops(n) for op, n in _NORM_MACS.items()})
    with torch.no_grad(), counter:
        copy(*(tensor.to('meta') for tensor in inputs))
    counts = counter.get_flop_counts()
    total = _macs(counts.get('Global', {}))
    # The counter keeps the whole under 'Global', and names modules below the class of the outermost one.
    root = type(copy).__name__
    names = {name: name[len(root) + 1 :] for name in counts if name == root or name.startswith(f'{root}.')}
    return Complexity(
        params=sum(parameter.numel() for parameter in model.parameters()),
        macs=total.total(),
        by_operator=dict(total),
        by_module={name: _macs(counts[key]).total() for key, name in names.items()},
    )


def _macs(flops: dict[Any, int]) -> Counter[str]:
    """Return multiply-adds by the name of the operator: one for two of the counter's operations."""
    return Counter({op.__name__: number // 2 for op, number in flops.items()})


def _norm_flops(macs_per_element: int) -> Callable[..., int]:
    """Return what the counter asks for an operator: a function from shapes to operations."""

    def flops(input_shape: Sequence[int], *_inputs: Any, **_outputs: Any) -> int:
        return 2 * macs_per_element * prod(input_shape)

    return flops
