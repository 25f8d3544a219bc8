# Published by the authors: mIoU 39.9 on ADE20K val (README of zhangzjn/EMOv2).
_base_ = [
    '../_base_/models/fpn_emov2.py',
    '../_base_/datasets/ade20k_8.py',
    '../_base_/runtime/seg.py',
    '../_base_/schedules/segmentation_emov2_160k.py',
]
model = dict(
    backbone=dict(arch='2m', init_cfg=dict(checkpoint='emov2_2m')),
    neck=dict(in_channels=[32, 48, 120, 200]),
)
