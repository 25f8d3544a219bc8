# EMOv2's: warm-up, then a constant rate, then a cosine over the second half.
_base_ = 'ssdlite_coco.py'
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-5, by_epoch=False, begin=0, end=500),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=12, end=24, T_max=12, eta_min=0),
]
optim_wrapper = dict(optimizer=dict(lr=2.4e-3), clip_grad=dict(max_norm=0.1, norm_type=2))
