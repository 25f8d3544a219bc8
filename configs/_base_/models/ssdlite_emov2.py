# SSDLite on stages 3 and 4 of EMOv2-1M: EMO's detector.
_base_ = 'ssdlite_emo.py'
model = dict(
    backbone=dict(type='emo_mm.EMOv2', window_size=10, init_cfg=dict(checkpoint='emov2_1m')),
    neck=dict(in_channels=(80, 180), out_channels=(80, 180, 512, 256, 256, 128)),
    bbox_head=dict(in_channels=(80, 180, 512, 256, 256, 128)),
)
