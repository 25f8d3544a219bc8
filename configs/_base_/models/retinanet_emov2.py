# RetinaNet with an FPN on stages 2 to 4 of EMOv2-1M.
_base_ = 'retinanet_emo.py'
model = dict(
    backbone=dict(type='emo_mm.EMOv2', window_size=10, init_cfg=dict(checkpoint='emov2_1m')),
    neck=dict(in_channels=[32, 48, 80, 180]),
)
