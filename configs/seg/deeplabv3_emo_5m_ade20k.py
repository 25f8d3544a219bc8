# Published by the authors: mIoU 37.8 on ADE20K val (README of zhangzjn/EMO).
_base_ = [
    '../_base_/models/deeplabv3_emo.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/runtime/seg.py',
    '../_base_/schedules/segmentation_80k.py',
]
model = dict(
    backbone=dict(
        arch='5m',
        window_size=16,
        init_cfg=dict(checkpoint='emo_5m'),
    ),
    decode_head=dict(in_channels=288),
    auxiliary_head=dict(in_channels=160),
)
