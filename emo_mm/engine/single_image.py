"""Batches of one image: BatchNorm has nothing to average where its map is a single pixel."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def norm_single_pixels(model: nn.Module) -> int:
    """Let BatchNorm layers use their running averages, as in a test, where they get one value for each channel.

    PyTorch stops there otherwise. The last map of SSD and the pooled one of DeepLab are single pixels, so one image
    in a batch is enough. Layers that see more values train as ever.

    Args:
        model: The model; changed in place.

    Returns:
        The number of layers.
    """
    # layers that average over processes see more than one image
    layers = [one for one in model.modules() if isinstance(one, _BatchNorm) and not isinstance(one, nn.SyncBatchNorm)]
    for layer in layers:
        layer.register_forward_pre_hook(_use_running)
        layer.register_forward_hook(_train_again)
    return len(layers)


def _use_running(layer: Any, inputs: tuple[Tensor, ...]) -> None:
    values = inputs[0].numel() // max(inputs[0].shape[1], 1)  # N,C,H,W -> N*H*W
    layer.pauses = layer.training and values == 1 and layer.running_mean is not None
    if layer.pauses:
        layer.training = False


def _train_again(layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    if layer.pauses:
        layer.training = True
    layer.pauses = False
