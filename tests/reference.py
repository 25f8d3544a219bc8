"""The plain formulation of EMO, straight from the published description: the oracle of the tests.

Functions over a state dict with the official names; N×C×H×W maps, a permute on each side of LayerNorm, explicit copies
into and out of windows, attention as two matrix products. Nothing here is shared with the package.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

EPS = 1e-6
HEAD_DIMS = {'emo_1m': (20, 21), 'emo_2m': (20, 20), 'emo_5m': (32, 32), 'emo_6m': (20, 32)}
DEPTHS = {'emo_1m': (2, 2, 8, 3), 'emo_2m': (3, 3, 9, 3), 'emo_5m': (3, 3, 9, 3), 'emo_6m': (3, 3, 9, 3)}


class Weights:
    """A view of a state dict below a prefix."""

    def __init__(self, tensors: dict[str, Tensor], prefix: str = '') -> None:
        self.tensors, self.prefix = tensors, prefix

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[f'{self.prefix}{name}']

    def __contains__(self, name: str) -> bool:
        return f'{self.prefix}{name}' in self.tensors

    def at(self, name: str) -> Weights:
        return Weights(self.tensors, f'{self.prefix}{name}.')


def batch_norm(x: Tensor, w: Weights, training: bool) -> Tensor:
    return F.batch_norm(x, w['running_mean'], w['running_var'], w['weight'], w['bias'], training, 0.1, EPS)


def layer_norm(x: Tensor, w: Weights) -> Tensor:
    x = x.permute(0, 2, 3, 1).contiguous()
    x = F.layer_norm(x, x.shape[-1:], w['weight'], w['bias'], EPS)
    return x.permute(0, 3, 1, 2).contiguous()


def attention(y: Tensor, w: Weights, window: int, head_dim: int) -> Tensor:
    batch, channels, height, width = y.shape
    wh, ww = (window, window) if window > 0 else (height, width)
    y = F.pad(y, (0, -width % ww, 0, -height % wh))
    padded_h, padded_w = y.shape[2:]
    n1, n2 = padded_h // wh, padded_w // ww
    heads = channels // head_dim

    def windows(x: Tensor) -> Tensor:  # N, C, H', W' -> N·n1·n2, heads, d, T
        x = x.reshape(batch, heads, head_dim, wh, n1, ww, n2).permute(0, 4, 6, 1, 2, 3, 5)
        return x.reshape(batch * n1 * n2, heads, head_dim, wh * ww).contiguous()

    q, k = F.conv2d(y, w['qk.conv.weight'], w['qk.conv.bias']).chunk(2, 1)
    q, k, v = windows(q), windows(k), windows(y)
    weights = (q.transpose(-1, -2) @ k * head_dim**-0.5).softmax(-1)  # N·n1·n2, heads, T, T
    out = (v @ weights.transpose(-1, -2)).reshape(batch, n1, n2, channels, wh, ww)
    out = out.permute(0, 3, 4, 1, 5, 2).reshape(batch, channels, padded_h, padded_w)
    return out[:, :, :height, :width].contiguous()


def block(x: Tensor, w: Weights, stage: int, index: int, head_dim: int, window: int, training: bool) -> Tensor:
    y = batch_norm(x, w.at('norm'), training) if stage < 2 else layer_norm(x, w.at('norm.norm'))
    if 'qk.conv.weight' in w:
        y = attention(y, w, window, head_dim)
    y = F.conv2d(y, w['v.conv.weight'], w['v.conv.bias'])
    y = F.silu(y) if stage < 2 else F.gelu(y)
    kernel = w['conv_local.conv.weight']
    stride = 2 if index == 0 else 1
    z = F.conv2d(y, kernel, stride=stride, padding=-(-(kernel.shape[-1] - stride) // 2), groups=len(kernel))
    z = F.silu(batch_norm(z, w.at('conv_local.norm'), training))
    if index == 0:
        return F.conv2d(z, w['proj.conv.weight'])
    return x + F.conv2d(y + z, w['proj.conv.weight'])


def stem(x: Tensor, w: Weights, training: bool) -> Tensor:
    x = F.conv2d(x, w['0.convs.0.0.weight'], w['0.convs.0.0.bias'], stride=2, padding=1)
    x = batch_norm(x, w.at('0.convs.0.1'), training)
    z = F.conv2d(x, w['1.conv_local.conv.weight'], padding=1, groups=x.shape[1])
    z = F.silu(batch_norm(z, w.at('1.conv_local.norm'), training))
    gate = z.mean((2, 3), keepdim=True)
    gate = F.silu(F.conv2d(gate, w['1.se.conv_reduce.weight'], w['1.se.conv_reduce.bias']))
    gate = F.conv2d(gate, w['1.se.conv_expand.weight'], w['1.se.conv_expand.bias']).sigmoid()
    return F.conv2d(z * gate, w['1.proj.conv.weight'])


def features(name: str, tensors: dict[str, Tensor], x: Tensor, window: int, training: bool = False) -> list[Tensor]:
    """Return the five maps of a published network."""
    w = Weights(tensors)
    maps = [stem(x, w.at('stage0'), training)]
    for stage, depth in enumerate(DEPTHS[name]):
        x = maps[-1]
        head_dim = HEAD_DIMS[name][stage - 2] if stage >= 2 else 0
        for index in range(depth):
            x = block(x, w.at(f'stage{stage + 1}.{index}'), stage, index, head_dim, window, training)
        maps.append(x)
    return maps


def logits(last: Tensor, tensors: dict[str, Tensor]) -> Tensor:
    """Return the 1000 logits for the last map."""
    w = Weights(tensors)
    return F.linear(layer_norm(last, w.at('norm.norm')).mean((2, 3)), w['head.weight'], w['head.bias'])
