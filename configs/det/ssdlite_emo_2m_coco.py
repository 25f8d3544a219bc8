# Published by the authors: box AP 25.2 on COCO val2017 (README of zhangzjn/EMO).
_base_ = [
    '../_base_/models/ssdlite_emo.py',
    '../_base_/datasets/coco_ssdlite_320.py',
    '../_base_/schedules/ssdlite_coco.py',
    '../_base_/runtime/det.py',
]
model = dict(
    backbone=dict(
        arch='2m',
        init_cfg=dict(checkpoint='emo_2m'),
    ),
    neck=dict(in_channels=(120, 200), out_channels=(120, 200, 512, 256, 256, 128)),
    bbox_head=dict(in_channels=(120, 200, 512, 256, 256, 128)),
)
