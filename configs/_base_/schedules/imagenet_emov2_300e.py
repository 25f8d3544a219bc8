# EMOv2's: total batch 1024.
_base_ = 'imagenet_300e.py'
lr = 3e-3  # 1.5e-3 per 512 images
param_scheduler = [
    dict(_base_.param_scheduler[0], start_factor=1e-6 / lr),
    _base_.param_scheduler[1],
]
optim_wrapper = dict(optimizer=dict(lr=lr))
auto_scale_lr = dict(enable=False, base_batch_size=1024)  # 8 GPUs x 128 images
