# EMOv2's DeepLabv3 and PSPNet: warm-up, then a constant rate, then a cosine over the second half.
_base_ = 'segmentation_80k.py'
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-5, by_epoch=False, begin=0, end=500),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=40000, end=80000, T_max=40000, eta_min=0),
]
optim_wrapper = dict(optimizer=dict(weight_decay=0.05), clip_grad=dict(max_norm=0.1, norm_type=2))
auto_scale_lr = dict(enable=False, base_batch_size=32)  # 4 GPUs x 8 images
