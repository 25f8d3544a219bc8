# Published by the authors: mIoU 42.4 (42.3 in the training log) on ADE20K val (README of zhangzjn/EMOv2).
_base_ = [
    '../_base_/models/fpn_emov2.py',
    '../_base_/datasets/ade20k_8.py',
    '../_base_/runtime/seg.py',
    '../_base_/schedules/segmentation_emov2_160k.py',
]
model = dict(
    backbone=dict(arch='5m', init_cfg=dict(checkpoint='emov2_5m')),
    neck=dict(in_channels=[48, 72, 160, 288]),
)
