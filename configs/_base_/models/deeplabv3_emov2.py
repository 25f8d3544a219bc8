# DeepLabv3 on EMOv2-1M: EMO's segmenter.
_base_ = 'deeplabv3_emo.py'
model = dict(
    backbone=dict(type='emo_mm.EMOv2', window_size=10, init_cfg=dict(checkpoint='emov2_1m')),
    decode_head=dict(in_channels=180),
)
