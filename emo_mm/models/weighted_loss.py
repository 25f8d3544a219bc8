"""mmseg's cross entropy with a weight for each class, where some pixels are ignored."""

from __future__ import annotations

from mmseg.models.losses import CrossEntropyLoss
from torch import Tensor

from emo_mm.registry import MODELS


@MODELS.register_module()
class WeightedCrossEntropyLoss(CrossEntropyLoss):
    """mmseg's ``CrossEntropyLoss``, whose mean over weighted pixels is right where pixels are ignored.

    The classic mmseg 1.2.2 looks up a weight for ignored pixels too, which have none, and ends in an ``IndexError``;
    its maintained fork does with ``avg_non_ignore``. Here the loss is divided by the weights of the other pixels.
    """

    def forward(
        self,
        cls_score: Tensor,
        label: Tensor,
        weight: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
        reduction_override: str | None = None,
        ignore_index: int = -100,
    ) -> Tensor:
        """Return the loss.

        Args:
            cls_score: Logits, (N, classes, H, W).
            label: Classes, (N, H, W).
            weight: Weight of each pixel, (N, H, W).
            avg_factor: What the sum is divided by; None for the weights of the pixels that are not ignored.
            reduction_override: Another reduction than that of the loss.
            ignore_index: Class of the pixels that are ignored.
        """
        softmax = not (self.use_sigmoid or self.use_mask)
        averaged = avg_factor is None and (reduction_override or self.reduction) == 'mean'
        if softmax and averaged and self.class_weight is not None:
            counted = label[label != ignore_index]  # (P,), the pixels that are not ignored
            avg_factor = cls_score.new_tensor(self.class_weight)[counted].sum()  # mmseg guards against 0
        return super().forward(
            cls_score,
            label,
            weight=weight,
            avg_factor=avg_factor,
            reduction_override=reduction_override,
            ignore_index=ignore_index,
        )
