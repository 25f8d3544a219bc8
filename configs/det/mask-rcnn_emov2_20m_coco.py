# Published by the authors: box AP 44.2, mask AP 40.6 on COCO val2017 (README of zhangzjn/EMOv2).
# The authors published no ImageNet weights of the 20M network: give your own file with --weights.
_base_ = [
    '../_base_/models/mask-rcnn_emov2.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/coco_1x_emov2.py',
    '../_base_/runtime/ins.py',
]
model = dict(
    backbone=dict(arch='20m', init_cfg=dict(checkpoint='emov2_20m')),
    neck=dict(in_channels=[64, 128, 320, 448]),
)
