# Published by the authors: box AP 27.9 (27.8 in the training log) on COCO val2017 (README of zhangzjn/EMO).
_base_ = [
    '../_base_/models/ssdlite_emo.py',
    '../_base_/datasets/coco_ssdlite_320.py',
    '../_base_/schedules/ssdlite_coco.py',
    '../_base_/runtime/det.py',
]
model = dict(
    backbone=dict(
        arch='5m',
        window_size=10,
        init_cfg=dict(checkpoint='emo_5m'),
    ),
    neck=dict(in_channels=(160, 288), out_channels=(160, 288, 512, 256, 256, 128)),
    bbox_head=dict(in_channels=(160, 288, 512, 256, 256, 128)),
)
