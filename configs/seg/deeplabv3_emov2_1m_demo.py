# A demonstration of ours, no published model: DeepLabv3-EMOv2-1M from scratch in minutes on two CPU cores.
_base_ = 'deeplabv3_emo_1m_demo.py'
model = dict(
    # From the published millionth, layer scale takes longer to grow than this training lasts.
    backbone=dict(type='emo_mm.EMOv2', init_cfg=dict(type='emo_mm.LayerScaleInit', value=1.0, _delete_=True)),
    decode_head=dict(in_channels=180),
)
