# The authors publish no classification figure of this size.
_base_ = [
    '../_base_/models/emov2_cls.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/imagenet_emov2_300e.py',
    '../_base_/runtime/cls_ema.py',
]
train_dataloader = dict(batch_size=128)
model = dict(backbone=dict(arch='20m'), head=dict(in_channels=448))
