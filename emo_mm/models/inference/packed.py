"""Convolutions for inference on a CPU: activation inside, weights laid out once instead of at every call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.compiler import is_compiling

from emo_mm.models.layers.pointwise import gelu, silu

# An activation by its name: how oneDNN calls it, its algorithm, and how it is computed otherwise.
_ACTIVATIONS: dict[str, tuple[str, str, Callable[[Tensor], Tensor]]] = {
    'none': ('none', '', lambda x: x),
    'silu': ('swish', '', silu),
    'gelu': ('gelu', 'none', gelu),
}

# Weights are kept in as many layouts, for as many shapes of the input.
MAX_LAYOUTS = 4


class PackedConv2d(nn.Conv2d):
    """A convolution of a trained network and the activation after it, in one call of oneDNN.

    On a CPU the weights are kept a second time, in the layout that oneDNN wants. On other devices, in other types, in
    a traced or compiled program and where gradients are needed it is a plain convolution and an activation.

    Args:
        conv: The convolution, padded with zeros; its parameters are shared.
        act: ``none``, ``silu`` or ``gelu``.
    """

    def __init__(self, conv: nn.Conv2d, act: str) -> None:
        settings: dict[str, Any] = {
            name: getattr(conv, name) for name in ('kernel_size', 'stride', 'padding', 'dilation', 'groups')
        }
        super().__init__(conv.in_channels, conv.out_channels, bias=conv.bias is not None, device='meta', **settings)
        self.weight, self.bias = conv.weight, conv.bias
        self.train(conv.training)
        self.act = act
        self._packed: dict[Any, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H', W')."""
        algorithm, variant, activate = _ACTIVATIONS[self.act]
        if not self._takes(x):
            return activate(super().forward(x))
        return torch.ops.mkldnn._convolution_pointwise(
            x,
            self._packed_weight(x),
            self.bias,
            self.padding,
            self.stride,
            self.dilation,
            self.groups,
            algorithm,
            [],
            variant,
        )

    def extra_repr(self) -> str:
        """Describe the settings."""
        return f'{super().extra_repr()}, act={self.act}'

    def _takes(self, x: Tensor) -> bool:
        return bool(
            x.is_cpu
            and x.dim() == 4
            and x.numel() > 0
            and x.dtype == self.weight.dtype == torch.float32
            and not is_compiling()
            and not torch.jit.is_tracing()
            and not (torch.is_grad_enabled() and (x.requires_grad or self.weight.requires_grad))
            and not torch.is_autocast_enabled('cpu')
            and type(x) is Tensor
            and torch.backends.mkldnn.is_available()
            and torch.backends.mkldnn.enabled
        )

    def _packed_weight(self, x: Tensor) -> Tensor:
        """Return the weights in the layout for an input; another shape may want another one."""
        # Tensors made in inference mode do not count their changes; nobody changes those of a fused network.
        version = None if self.weight.is_inference() else self.weight._version
        key = x.shape, torch.get_num_threads(), self.weight.data_ptr(), version
        if key not in self._packed:
            if len(self._packed) >= MAX_LAYOUTS:
                self._packed.clear()
            self._packed[key] = torch.ops.mkldnn._reorder_convolution_weight(
                self.weight.detach(), self.padding, self.stride, self.dilation, self.groups, x.shape
            )
        return self._packed[key]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {'_packed': {}}  # oneDNN's layout can be neither copied nor stored
