# EMOv2's Semantic FPN and SegFormer head: 160,000 iterations of ADE20K, the head at ten times the rate; no clipping.
_base_ = 'segmentation_80k.py'
max_iters = 160000
train_cfg = dict(max_iters=max_iters)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=80000, end=max_iters, T_max=80000, eta_min=0),
]
optim_wrapper = dict(
    optimizer=dict(weight_decay=0.05),
    paramwise_cfg=dict(custom_keys={'head': dict(lr_mult=10.0)}),
)
auto_scale_lr = dict(enable=False, base_batch_size=32)  # 4 GPUs x 8 images
