# Published by the authors: box AP 39.5, mask AP 36.9 on COCO val2017 (README of zhangzjn/EMOv2).
_base_ = [
    '../_base_/models/mask-rcnn_emov2.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/coco_1x_emov2.py',
    '../_base_/runtime/ins.py',
]
model = dict(
    backbone=dict(arch='2m', init_cfg=dict(checkpoint='emov2_2m')),
    neck=dict(in_channels=[32, 48, 120, 200]),
)
