"""Networks that compute with the plain formulation, and with the parameters of ours."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from emo_mm.benchmark import reference
from emo_mm.models.names import official_names


class PlainClassifier(nn.Module):
    """A published classifier, computed by :mod:`emo_mm.benchmark.reference` with the parameters of one of ours.

    It has no stochastic depth, which in training leaves out a random fiftieth of the blocks at most.

    Args:
        name: Name of the backbone, such as ``emo_1m``.
        model: Our classifier, whose parameters and statistics are used and updated; it must be on its device already.
    """

    def __init__(self, name: str, model: nn.Module) -> None:
        super().__init__()
        self.name = name
        self.model = model
        backbone: Any = model.backbone
        self.window = backbone.window_sizes[-1]
        self.training = model.training
        tensors = model.state_dict(keep_vars=True)  # the parameters themselves, which a training step updates
        self.tensors = {official: tensors[native] for native, official in official_names(tensors).items()}

    def forward(self, images: Tensor) -> Tensor:
        """Return logits of shape (N, 1000) for images of shape (N, 3, H, W)."""
        last = reference.features(self.name, self.tensors, images, self.window, self.training)[-1]
        return reference.logits(last, self.tensors)
