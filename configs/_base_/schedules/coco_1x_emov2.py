# RetinaNet and Mask R-CNN of EMOv2: 12 epochs, total batch 16; a constant rate, then a cosine over the second half.
_base_ = 'retinanet_coco.py'
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-5, by_epoch=False, begin=0, end=500),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=6, end=12, T_max=6, eta_min=0),
]
optim_wrapper = dict(clip_grad=dict(max_norm=0.1, norm_type=2))
auto_scale_lr = dict(enable=False, base_batch_size=16)  # 4 GPUs x 4 images
