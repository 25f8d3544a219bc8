# Published by the authors: mIoU 34.6 on ADE20K val (README of zhangzjn/EMOv2).
_base_ = [
    '../_base_/models/deeplabv3_emov2.py',
    '../_base_/datasets/ade20k_8.py',
    '../_base_/runtime/seg.py',
    '../_base_/schedules/segmentation_emov2_80k.py',
]
