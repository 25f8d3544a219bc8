# Ours, with no published figure: RTMDet-Ins-EMOv2-20M at 640x640.
# The authors published no ImageNet weights of the 20M network: give your own file with --weights.
_base_ = [
    '../_base_/models/rtmdet-ins_emov2.py',
    '../_base_/datasets/coco_mosaic_ins_640.py',
    '../_base_/schedules/mosaic_300e_coco.py',
    '../_base_/runtime/ins_ema.py',
]
model = dict(
    backbone=dict(arch='20m', init_cfg=dict(checkpoint='emov2_20m')),
    neck=dict(in_channels=[128, 320, 448], out_channels=128),
    bbox_head=dict(in_channels=128, feat_channels=128),
)
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='emo_mm.LastEpochsHook', pipeline=_base_.plain_pipeline, share=1 / 15),
]
