# RTMDet-Ins on stages 2 to 4 of EMOv2-1M. Ours, unpublished.
_base_ = 'rtmdet-ins_emo.py'
model = dict(
    backbone=dict(type='emo_mm.EMOv2', init_cfg=dict(checkpoint='emov2_1m')),
    neck=dict(in_channels=[48, 80, 180]),
)
