# Published by the authors: box AP 38.9 on COCO val2017 (README of zhangzjn/EMO).
_base_ = [
    '../_base_/models/retinanet_emo.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/retinanet_coco.py',
    '../_base_/runtime/det.py',
]
model = dict(
    backbone=dict(
        arch='5m',
        window_size=10,
        init_cfg=dict(checkpoint='emo_5m'),
    ),
    neck=dict(in_channels=[48, 72, 160, 288]),
)
