# Published by the authors: mIoU 33.2 on ADE20K val (README of zhangzjn/EMO).
_base_ = [
    '../_base_/models/pspnet_emo.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/runtime/seg.py',
    '../_base_/schedules/segmentation_80k.py',
]
