"""The SSD head that also predicts."""

from __future__ import annotations

from mmdet.models.dense_heads import SSDHead

from emo_mm.registry import MODELS


@MODELS.register_module()
class SSDLiteHead(SSDHead):
    """mmdet's SSD head, mended for inference.

    mmdet 3.3.0 and its maintained fork compute the losses of SSD in functions and give ``SSDHead`` no ``loss_cls``,
    which the prediction code of the base class asks for custom class activations. There are none.
    """

    loss_cls = None
