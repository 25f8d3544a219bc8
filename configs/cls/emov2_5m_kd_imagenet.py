# Published by the authors: top-1 80.9 on ImageNet-1K val, distilled (README of zhangzjn/EMOv2).
_base_ = [
    '../_base_/models/emov2_cls_distilled.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/imagenet_emov2_300e.py',
    '../_base_/runtime/cls_ema.py',
]
train_dataloader = dict(batch_size=128)
model = dict(backbone=dict(arch='5m'), head=dict(in_channels=288))
