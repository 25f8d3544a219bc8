"""Folding of the norms into the convolutions and projections beside them, for inference."""

from __future__ import annotations

from copy import deepcopy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from emo_mm.models.inference.packed import PackedConv2d
from emo_mm.models.layers import I2RMB, IRMB, EMOStem, EMOv2Stem, LayerNorm2d, LayerScale

Model = TypeVar('Model', bound=nn.Module)

# A padded position takes the value that the folded affine map sends to zero, bias / gain away from it. Beyond this the
# gain is as good as zero, and the norm stays as it is.
MAX_PAD_VALUE = 1e4


def fuse(model: Model) -> Model:
    """Return a copy of a network for inference that gives the same answers with fewer operations.

    Every BatchNorm is folded into the convolution before or after it, the gain and bias of every LayerNorm into the
    projections after it, layer scale into the projection before it, and stochastic depth is taken out. Works on a
    backbone and on whole detectors, segmenters and classifiers, whose heads' ``ConvModule`` are folded by mmcv. The
    backbone's convolutions take the activations after them inside (``PackedConv2d``). The copy is in eval mode, needs
    no gradients, and cannot be trained: its state dict lacks the norms.

    Args:
        model: The network; it stays as it is.

    Returns:
        The copy, equal to ``model.eval()`` within 1e-5.
    """
    fused = deepcopy(model).eval().requires_grad_(False)
    with torch.no_grad():
        _fold_conv_modules(fused)
        for module in fused.modules():
            if isinstance(module, EMOStem):
                _fold_norm(module, 'conv', 'bn')
                module.conv = PackedConv2d(module.conv, 'none')
            elif isinstance(module, EMOv2Stem):
                _fold_norm(module, 'conv', 'norm')
                _fold_norm(module, 'dw_conv', 'dw_norm')
                module.conv, module.act = PackedConv2d(module.conv, 'silu'), nn.Identity()
                _pack_local_mixing(module)
            elif isinstance(module, IRMB):
                _fold_block(module)
                _pack_block(module)
            elif _is_classifier(module):
                _fold_classifier(module)
    return fused


def _fold_norm(module: nn.Module, conv: str, norm: str) -> None:
    """Fold the BatchNorm after a convolution into it."""
    if isinstance(getattr(module, norm), _BatchNorm):
        setattr(module, conv, fuse_conv_bn_eval(getattr(module, conv), getattr(module, norm)))
        setattr(module, norm, nn.Identity())


def _fold_block(block: IRMB) -> None:
    _fold_norm(block, 'dw_conv', 'dw_norm')
    if isinstance(block, I2RMB) and isinstance(block.layer_scale, LayerScale):
        block.proj.weight *= block.layer_scale.gamma.view(-1, 1, 1, 1)  # 1,out,1,1 -> out,1,1,1
        block.layer_scale = nn.Identity()
    block.drop_path = nn.Identity()
    if isinstance(block.norm, _BatchNorm) and block.qk is None:
        norm = block.norm
        assert norm.running_mean is not None
        assert norm.running_var is not None
        gain = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        _fold_into(block.v[0], gain, norm.bias - norm.running_mean * gain)
        block.norm = nn.Identity()
    elif isinstance(block.norm, LayerNorm2d) and block.norm.elementwise_affine:
        gain, bias = block.norm.weight, block.norm.bias
        if block.qk is not None:
            pad_value = -bias / gain
            if not bool((pad_value.abs() <= MAX_PAD_VALUE).all()):  # a NaN is not
                return
            block.pad_value = pad_value
            _fold_into(block.qk, gain, bias)
        # In EMO attention mixes what the projection gets with weights that sum to one: gain and bias pass through it.
        _fold_into(block.v[0], gain, bias)
        block.norm = LayerNorm2d(block.norm.normalized_shape[0], affine=False)


def _pack_block(block: IRMB) -> None:
    # Where attention expands the map, values are projected as tokens.
    if block.v and not (block.qk is not None and block.attention_expands):
        expansion = block.v[0]
        assert isinstance(expansion, nn.Conv2d)
        block.v = nn.Sequential(PackedConv2d(expansion, block.act))
    _pack_local_mixing(block)


def _pack_local_mixing(part: IRMB | EMOv2Stem) -> None:
    part.dw_conv, part.dw_act = PackedConv2d(part.dw_conv, 'silu'), nn.Identity()
    part.proj = PackedConv2d(part.proj, 'none')


def _is_classifier(module: nn.Module) -> bool:
    """Tell the classification head, without importing it: mmpretrain may be missing."""
    return type(module).__name__ == 'EMOClsHead'


def _fold_classifier(head: nn.Module) -> None:
    norm, linear = head.norm, head.fc
    assert isinstance(norm, LayerNorm2d)
    assert isinstance(linear, nn.Linear)
    if norm.elementwise_affine:
        _fold_into(linear, norm.weight, norm.bias)
        head.norm = LayerNorm2d(norm.normalized_shape[0], affine=False)


def _fold_into(projection: nn.Module, gain: Tensor, bias: Tensor) -> None:
    """Let a linear or 1x1 convolution that saw ``gain * x + bias`` see ``x``."""
    assert isinstance(projection, nn.Conv2d | nn.Linear)
    assert projection.bias is not None
    weight = projection.weight
    projection.bias += weight.flatten(1) @ bias  # out,in(,1,1) @ in
    weight *= gain.view(-1, *(1,) * (weight.dim() - 2))  # in -> in(,1,1)


def _fold_conv_modules(model: nn.Module) -> None:
    """Fold the BatchNorms of the heads' ``ConvModule``, as mmcv does."""
    if not any(type(module).__module__.startswith('mmcv.') for module in model.modules()):
        return
    from mmcv.cnn import ConvModule, fuse_conv_bn

    known: set[int] = set()
    for module in model.modules():
        if isinstance(module, ConvModule):
            if id(module.conv) in known:  # levels of RTMDet and GFL share convolutions, and have norms of their own
                module.conv = deepcopy(module.conv)
            known.add(id(module.conv))
    for module in model.modules():
        if isinstance(module, ConvModule):
            fuse_conv_bn(module)
