# Published by the authors: top-1 78.422 on ImageNet-1K val, of the averaged weights (README of zhangzjn/EMO).
_base_ = [
    '../_base_/models/emo_cls.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/imagenet_300e.py',
    '../_base_/runtime/cls_ema.py',
]
model = dict(backbone=dict(arch='5m'), head=dict(in_channels=288))
