"""Small models of every task with random weights, for tests that export them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from mmengine.registry import MODELS, DefaultScope

from emo_mm.compat import register_toolbox
from emo_mm.config.names import get_config
from emo_mm.export.options import ExportOptions
from emo_mm.models.emo import ARCHS as EMO_ARCHS
from emo_mm.models.emov2 import ARCHS as EMOV2_ARCHS
from emo_mm.models.layers import LayerScale
from emo_mm.predict.loading import LoadedModel

NAMES = {
    'det': 'ssdlite_emo_1m_demo',
    'seg': 'deeplabv3_emo_1m_demo',
    'cls': 'emo_1m_demo',
    'det of EMOv2': 'ssdlite_emov2_1m_demo',
    'seg of EMOv2': 'deeplabv3_emov2_1m_ade20k',
    'cls of EMOv2': 'emov2_1m_imagenet',
    'RetinaNet': 'retinanet_emo_1m_coco',
    'RTMDet': 'rtmdet_emo_1m_demo',
    'RTMDet-Ins': 'rtmdet-ins_emo_1m_demo',
    'GFL': 'gfl_emo_1m_demo',
    'PSPNet': 'pspnet_emo_1m_ade20k',
    'Mask R-CNN': 'mask-rcnn_emov2_1m_coco',
}


CLASSES = 5  # of the segmenter


@cache
def shallow(kind: str) -> LoadedModel:
    """Return a model with one block of each kind and random weights, under its config's name."""
    cfg = get_config(NAMES[kind])
    register_toolbox(cfg.default_scope)
    archs = {'EMO': EMO_ARCHS, 'EMOv2': EMOV2_ARCHS}[cfg.model.backbone.type.removeprefix('emo_mm.')]
    cfg.model.backbone.update(arch={**archs['1m'], 'depths': (1, 1, 2, 2)}, init_cfg=None)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model).eval()
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.LayerNorm):  # so that what windows are padded with matters
            torch.nn.init.normal_(module.bias)
        elif isinstance(module, LayerScale):  # so that blocks matter
            torch.nn.init.ones_(module.gamma)
        # scores on both sides of the threshold
        elif 'bbox_head.cls_convs' in name and getattr(module, 'bias', None) is not None:
            torch.nn.init.normal_(module.bias)
        elif name.endswith('retina_cls'):
            torch.nn.init.normal_(module.bias, mean=-4)
        elif 'bbox_head.rtm_cls.' in name or name.endswith('gfl_cls'):
            # scores that are neither all alike nor all 0 or 1
            torch.nn.init.normal_(module.weight, std=0.03 if kind == 'GFL' else 0.2)
            torch.nn.init.normal_(module.bias, mean=-3)
        elif kind == 'GFL' and isinstance(module, torch.nn.BatchNorm2d) and not name.startswith('backbone'):
            torch.nn.init.constant_(module.weight, 2)  # a signal as of trained weights, so that no two boxes are alike
        elif 'bbox_head.rtm_reg.' in name:  # boxes of a cell or two to each side
            torch.nn.init.uniform_(module.bias, 0.5, 2)
    if kind in SPREADING:
        SPREADING[kind](model)
    return LoadedModel(NAMES[kind], cfg, model, {}, 'abc')


def _spread_kernels(model: Any) -> None:
    """Let the masks of RTMDet-Ins have borders."""
    for kernels in model.bbox_head.rtm_kernel:
        torch.nn.init.normal_(kernels.weight, std=0.3)
        torch.nn.init.normal_(kernels.bias, std=0.3)


def _spread_stages(model: Any) -> None:
    """Let Mask R-CNN have proposals, boxes and masks that are not all alike."""
    for part in (model.neck, model.rpn_head, model.roi_head):
        for module in part.modules():
            if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
                torch.nn.init.kaiming_normal_(module.weight)
    stds = {model.rpn_head.rpn_cls: 0.1, model.rpn_head.rpn_reg: 0.05}
    head = model.roi_head.bbox_head
    for layer, std in (stds | {head.fc_cls: 0.05, head.fc_reg: 0.05}).items():
        torch.nn.init.normal_(layer.weight, std=std)


SPREADING = {'RTMDet-Ins': _spread_kernels, 'Mask R-CNN': _spread_stages}


def options(path: str | Path, **changes: object) -> ExportOptions:
    """Return what the command line gives to export a model to a path."""
    return ExportOptions('model', out=str(path), threads=1, **changes)  # type: ignore[arg-type]
