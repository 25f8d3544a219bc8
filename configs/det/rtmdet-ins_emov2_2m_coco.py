# Ours, with no published figure: RTMDet-Ins-EMOv2-2M at 416x416.
_base_ = [
    '../_base_/models/rtmdet-ins_emov2.py',
    '../_base_/datasets/coco_mosaic_ins_416.py',
    '../_base_/schedules/mosaic_300e_coco.py',
    '../_base_/runtime/ins_ema.py',
]
model = dict(
    backbone=dict(arch='2m', init_cfg=dict(checkpoint='emov2_2m'), window_size=13),
    neck=dict(in_channels=[48, 120, 200]),
)
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='emo_mm.LastEpochsHook', pipeline=_base_.plain_pipeline, share=1 / 15),
]
