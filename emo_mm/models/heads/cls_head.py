"""The classifier of the published ImageNet networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmpretrain.models.heads import ClsHead
from torch import Tensor, nn

from emo_mm.models.layers.norm import LayerNorm2d
from emo_mm.registry import MODELS

_LOSS = dict(type='CrossEntropyLoss', loss_weight=1.0)
_INIT = dict(type='TruncNormal', layer='Linear', std=0.02, bias=0.0)


@MODELS.register_module()
class EMOClsHead(ClsHead):
    """Norm, average, linear: the last map is normalised over its channels, averaged over its pixels and classified.

    Source: the published EMO networks; their tensors ``norm.norm.*`` and ``head.*`` are ``norm.*`` and ``fc.*`` here.

    Args:
        num_classes: Number of classes.
        in_channels: Channels of the backbone's last map.
        loss: Config of the loss.
        topk: The k of the accuracies that are logged in training, where ``cal_acc``.
        cal_acc: Whether to log accuracies in training.
        init_cfg: MMEngine's initialisation; the default is the published one.

    Raises:
        ValueError: If ``num_classes`` or ``in_channels`` is below 1.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        loss: Mapping[str, Any] = _LOSS,
        topk: int | Sequence[int] = (1,),
        cal_acc: bool = False,
        init_cfg: Mapping[str, Any] | None = _INIT,
    ) -> None:
        for name, value in (('num_classes', num_classes), ('in_channels', in_channels)):
            if value < 1:
                raise ValueError(f'{name} is {value}; it must be at least 1')
        super().__init__(
            loss=dict(loss),
            topk=topk if isinstance(topk, int) else tuple(topk),
            cal_acc=cal_acc,
            init_cfg=dict(init_cfg) if init_cfg is not None else None,
        )
        self.num_classes = num_classes
        self.in_channels = in_channels
        self.norm = LayerNorm2d(in_channels)
        self.fc = nn.Linear(in_channels, num_classes)

    def pre_logits(self, feats: tuple[Tensor, ...]) -> Tensor:
        """Return what the linear layer sees, (N, in_channels), for maps of which the last is (N, in_channels, H, W)."""
        return self.norm(feats[-1]).mean((2, 3))  # N,C,H,W -> N,C

    def forward(self, feats: tuple[Tensor, ...]) -> Tensor:
        """Return the logits, (N, num_classes), for maps of which the last is (N, in_channels, H, W)."""
        return self.fc(self.pre_logits(feats))
