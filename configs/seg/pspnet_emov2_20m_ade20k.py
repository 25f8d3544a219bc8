# Published by the authors: mIoU 43.4 on ADE20K val (README of zhangzjn/EMOv2).
# The authors published no ImageNet weights of the 20M network: give your own file with --weights.
_base_ = [
    '../_base_/models/pspnet_emov2.py',
    '../_base_/datasets/ade20k_8.py',
    '../_base_/runtime/seg.py',
    '../_base_/schedules/segmentation_emov2_80k.py',
]
model = dict(
    backbone=dict(arch='20m', init_cfg=dict(checkpoint='emov2_20m')),
    decode_head=dict(in_channels=448),
    auxiliary_head=dict(in_channels=320),
)
