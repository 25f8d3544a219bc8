# Published by the authors: box AP 36.2 on COCO val2017 (README of zhangzjn/EMO).
_base_ = [
    '../_base_/models/retinanet_emo.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/retinanet_coco.py',
    '../_base_/runtime/det.py',
]
model = dict(
    backbone=dict(
        arch='2m',
        init_cfg=dict(checkpoint='emo_2m'),
    ),
    neck=dict(in_channels=[32, 48, 120, 200]),
)
