"""The plain formulation of EMO and EMOv2: the oracle of the tests, and the baseline of the benchmark.

It is written straight from the published description, plainly and without a thought for speed: functions over a state
dict with the official names; N×C×H×W maps, a permute on each side of LayerNorm, explicit copies into and out of
windows, attention as two matrix products. It imports torch alone and shares nothing with the rest of the package, so
that what is fast here is compared with something that cannot have the same mistake.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

EPS = 1e-6
HEAD_DIMS = {
    'emo_1m': (20, 21),
    'emo_2m': (20, 20),
    'emo_5m': (32, 32),
    'emo_6m': (20, 32),
    'emov2_1m': (20, 20),
    'emov2_2m': (20, 20),
    'emov2_5m': (32, 32),
    'emov2_20m': (32, 32),
}
DEPTHS = dict.fromkeys(HEAD_DIMS, (3, 3, 9, 3))
DEPTHS |= {'emo_1m': (2, 2, 8, 3), 'emov2_1m': (2, 2, 8, 3), 'emov2_20m': (3, 3, 13, 3)}


class Weights:
    """A view of a state dict below a prefix.

    Args:
        tensors: The state dict.
        prefix: What the names that are looked up begin with, the last dot included.
    """

    def __init__(self, tensors: dict[str, Tensor], prefix: str = '') -> None:
        self.tensors, self.prefix = tensors, prefix

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[f'{self.prefix}{name}']

    def __contains__(self, name: str) -> bool:
        return f'{self.prefix}{name}' in self.tensors

    def at(self, name: str) -> Weights:
        """Return the view below a name."""
        return Weights(self.tensors, f'{self.prefix}{name}.')


def batch_norm(x: Tensor, w: Weights, training: bool) -> Tensor:
    """Normalize over the batch; in training, update the running statistics."""
    return F.batch_norm(x, w['running_mean'], w['running_var'], w['weight'], w['bias'], training, 0.1, EPS)


def layer_norm(x: Tensor, w: Weights) -> Tensor:
    """Normalize the channels of each pixel."""
    x = x.permute(0, 2, 3, 1).contiguous()
    x = F.layer_norm(x, x.shape[-1:], w['weight'], w['bias'], EPS)
    return x.permute(0, 3, 1, 2).contiguous()


def activation(x: Tensor, stage: int) -> Tensor:
    """Return SiLU in the first two stages, GELU in the last two."""
    return F.silu(x) if stage < 2 else F.gelu(x)


def attention(y: Tensor, w: Weights, window: int, head_dim: int) -> Tensor:
    """Return EMO's attention within windows, whose values are the map itself."""
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


def hybrid_attention(y: Tensor, w: Weights, window: int, head_dim: int, stage: int) -> Tensor:
    """Return EMOv2's attention, on the expanded map: its values are as many heads of more channels."""
    batch, channels, height, width = y.shape
    wh, ww = (window, window) if window > 0 else (height, width)
    y = F.pad(y, (0, -width % ww, 0, -height % wh))
    padded_h, padded_w = y.shape[2:]
    n1, n2 = padded_h // wh, padded_w // ww
    heads = channels // head_dim
    q, k = F.conv2d(y, w['qk.conv.weight'], w['qk.conv.bias']).chunk(2, 1)
    v = activation(F.conv2d(y, w['v.conv.weight'], w['v.conv.bias']), stage)

    def attend(axes: str) -> Tensor:
        cut = {'h': wh, 'a': n1, 'w': ww, 'b': n2}
        sizes = [cut[axis] for axis in axes]  # how rows, then columns, are split
        order = [axes.index(axis) for axis in 'abhw']

        def windows(x: Tensor) -> Tensor:  # N, C, H', W' -> N·n1·n2, heads, d, T
            dim = x.shape[1] // heads
            x = x.reshape(batch, heads, dim, *sizes).permute(
                0, 3 + order[0], 3 + order[1], 1, 2, *(3 + i for i in order[2:])
            )
            return x.reshape(batch * n1 * n2, heads, dim, wh * ww).contiguous()

        qs, ks, vs = windows(q), windows(k), windows(v)
        weights = (qs.transpose(-1, -2) @ ks * head_dim**-0.5).softmax(-1)  # N·n1·n2, heads, T, T
        out = (vs @ weights.transpose(-1, -2)).reshape(batch, n1, n2, v.shape[1], wh, ww)
        places = {'a': 1, 'b': 2, 'h': 4, 'w': 5}
        out = out.permute(0, 3, *(places[axis] for axis in axes)).reshape(batch, v.shape[1], padded_h, padded_w)
        return out[:, :, :height, :width].contiguous()

    return attend('hawb') + attend('ahbw')  # strided windows, then contiguous ones


def block(x: Tensor, w: Weights, stage: int, index: int, head_dim: int, window: int, training: bool) -> Tensor:
    """Return the output of a block; the first of a stage halves the map."""
    y = batch_norm(x, w.at('norm'), training) if stage < 2 else layer_norm(x, w.at('norm.norm'))
    if 'eops.0.qk.conv.weight' in w:
        y = hybrid_attention(y, w.at('eops.0'), window, head_dim, stage)
    else:
        if 'qk.conv.weight' in w:
            y = attention(y, w, window, head_dim)
        expansion = w.at('v.conv' if 'v.conv.weight' in w else 'eops.0.net.conv')
        y = F.conv2d(y, expansion['weight'], expansion['bias'])
        y = activation(y, stage)
    kernel = w['conv_local.conv.weight']
    stride = 2 if index == 0 else 1
    z = F.conv2d(y, kernel, stride=stride, padding=-(-(kernel.shape[-1] - stride) // 2), groups=len(kernel))
    z = F.silu(batch_norm(z, w.at('conv_local.norm'), training))
    has_scale = 'ls.gamma' in w
    scale = w['ls.gamma'] if has_scale else 1.0
    if index == 0:
        return F.conv2d(z, w['proj.conv.weight']) * scale
    return x + F.conv2d(y + z, w['proj.conv.weight']) * scale


def stem_v2(x: Tensor, w: Weights, training: bool) -> Tensor:
    """Return the map after EMOv2's stem."""
    x = F.conv2d(x, w['0.conv.weight'], w['0.conv.bias'], stride=2, padding=1)
    x = F.silu(batch_norm(x, w.at('0.norm'), training))
    x = F.conv2d(x, w['1.conv.weight'], padding=1, groups=x.shape[1])
    return F.conv2d(F.silu(batch_norm(x, w.at('1.norm'), training)), w['2.conv.weight'])


def stem(x: Tensor, w: Weights, training: bool) -> Tensor:
    """Return the map after EMO's stem."""
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
    head_dims = (0, 0, *HEAD_DIMS[name])
    return network(name.startswith('emov2'), tensors, x, DEPTHS[name], head_dims, (window,) * 4, training)


def network(
    is_v2: bool,
    tensors: dict[str, Tensor],
    x: Tensor,
    depths: Sequence[int],
    head_dims: Sequence[int],
    windows: Sequence[int],
    training: bool = False,
) -> list[Tensor]:
    """Return the five maps of a network of any depth, width of heads and window size, one of each for a stage."""
    w = Weights(tensors)
    maps = [(stem_v2 if is_v2 else stem)(x, w.at('stage0'), training)]
    for stage, depth in enumerate(depths):
        x = maps[-1]
        for index in range(depth):
            x = block(x, w.at(f'stage{stage + 1}.{index}'), stage, index, head_dims[stage], windows[stage], training)
        maps.append(x)
    return maps


def logits(last: Tensor, tensors: dict[str, Tensor]) -> Tensor:
    """Return the 1000 logits for the last map."""
    w = Weights(tensors)
    return F.linear(layer_norm(last, w.at('norm.norm')).mean((2, 3)), w['head.weight'], w['head.bias'])
