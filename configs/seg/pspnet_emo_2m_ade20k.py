# Published by the authors: mIoU 34.5 on ADE20K val (README of zhangzjn/EMO).
_base_ = [
    '../_base_/models/pspnet_emo.py',
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
