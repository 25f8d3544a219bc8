# The EMOv2-1M classifier of ImageNet: norm, average, linear as in EMO.
_base_ = 'emo_cls.py'
model = dict(backbone=dict(type='emo_mm.EMOv2'), head=dict(in_channels=180))
