"""Normalisation layers with the constants of the published networks."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

NORM_EPS = 1e-6


def batch_norm(num_features: int) -> nn.BatchNorm2d:
    """Return the BatchNorm of the published networks (eps 1e-6, momentum 0.1)."""
    return nn.BatchNorm2d(num_features, eps=NORM_EPS, momentum=0.1)


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of each pixel of an N×C×H×W map.

    The permutes are views: a map in channels-last memory format is normalised along its innermost axis and comes out
    in channels-last, without a copy.

    Args:
        num_channels: Channels of the map.
        affine: Whether a gain and a bias follow.
    """

    def __init__(self, num_channels: int, affine: bool = True) -> None:
        super().__init__(num_channels, eps=NORM_EPS, elementwise_affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise a map of shape (N, C, H, W)."""
        x = x.permute(0, 2, 3, 1)  # N,C,H,W -> N,H,W,C
        x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)  # N,H,W,C -> N,C,H,W
