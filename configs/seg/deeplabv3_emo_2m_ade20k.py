# Published by the authors: mIoU 35.3 on ADE20K val (README of zhangzjn/EMO).
_base_ = [
    '../_base_/models/deeplabv3_emo.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/runtime/seg.py',
    '../_base_/schedules/segmentation_80k.py',
]
model = dict(
    backbone=dict(
        arch='2m',
        init_cfg=dict(checkpoint='emo_2m'),
    ),
    decode_head=dict(in_channels=200),
    auxiliary_head=dict(in_channels=120),
)
