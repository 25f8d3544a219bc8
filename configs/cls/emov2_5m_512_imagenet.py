# Published by the authors: top-1 82.9 on ImageNet-1K val at 512x512, distilled (README of zhangzjn/EMOv2: a stronger
# training strategy). Only its input, window and distillation are known: the rest is as at 224x224.
_base_ = [
    '../_base_/models/emov2_cls_distilled.py',
    '../_base_/datasets/imagenet_512.py',
    '../_base_/schedules/imagenet_emov2_300e.py',
    '../_base_/runtime/cls_ema.py',
]
train_dataloader = dict(batch_size=128)
model = dict(backbone=dict(arch='5m', window_size=8), head=dict(in_channels=288))
