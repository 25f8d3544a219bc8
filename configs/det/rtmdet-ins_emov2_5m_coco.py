# Ours, with no published figure: RTMDet-Ins-EMOv2-5M at 640x640.
_base_ = [
    '../_base_/models/rtmdet-ins_emov2.py',
    '../_base_/datasets/coco_mosaic_ins_640.py',
    '../_base_/schedules/mosaic_300e_coco.py',
    '../_base_/runtime/ins_ema.py',
]
model = dict(
    backbone=dict(arch='5m', init_cfg=dict(checkpoint='emov2_5m')),
    neck=dict(in_channels=[72, 160, 288], out_channels=96),
    bbox_head=dict(in_channels=96, feat_channels=96),
)
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='emo_mm.LastEpochsHook', pipeline=_base_.plain_pipeline, share=1 / 15),
]
