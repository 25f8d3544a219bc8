# Published by the authors: box AP 42.3, mask AP 39.0 on COCO val2017 (README of zhangzjn/EMOv2).
_base_ = [
    '../_base_/models/mask-rcnn_emov2.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/coco_1x_emov2.py',
    '../_base_/runtime/ins.py',
]
model = dict(
    backbone=dict(arch='5m', init_cfg=dict(checkpoint='emov2_5m')),
    neck=dict(in_channels=[48, 72, 160, 288]),
)
