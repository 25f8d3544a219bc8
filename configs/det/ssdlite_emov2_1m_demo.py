# A demonstration of ours, no published model: SSDLite-EMOv2-1M from scratch at 256x256 in minutes on two CPU cores.
_base_ = 'ssdlite_emo_1m_demo.py'
model = dict(
    # From the published millionth, layer scale takes longer to grow than this training lasts.
    backbone=dict(type='emo_mm.EMOv2', init_cfg=dict(type='emo_mm.LayerScaleInit', value=1.0, _delete_=True)),
    neck=dict(in_channels=(80, 180), out_channels=(80, 180, 512, 256, 256, 128)),
    bbox_head=dict(in_channels=(80, 180, 512, 256, 256, 128)),
)
