# Ours, with no published figure: RTMDet-Ins-EMOv2-1M at 320x320.
_base_ = [
    '../_base_/models/rtmdet-ins_emov2.py',
    '../_base_/datasets/coco_mosaic_ins_320.py',
    '../_base_/schedules/mosaic_300e_coco.py',
    '../_base_/runtime/ins_ema.py',
]
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='emo_mm.LastEpochsHook', pipeline=_base_.plain_pipeline, share=1 / 15),
]
