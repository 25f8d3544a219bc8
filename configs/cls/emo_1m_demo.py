# A demonstration of ours, no published model: EMO-1M from scratch at 96x96 in minutes on two CPU cores.
_base_ = [
    '../_base_/models/emo_cls.py',
    '../_base_/datasets/shapes_classification.py',
    '../_base_/runtime/cls.py',
    '../_base_/schedules/scratch.py',
]
model = dict(
    backbone=dict(drop_path_rate=0.0),
    head=dict(num_classes=4),
)
# The classifier learns from whole pictures, and slower than the detector from many boxes: smaller steps, more of them.
max_epochs = 50
train_cfg = dict(max_epochs=max_epochs, val_interval=5)
param_scheduler = [
    _base_.param_scheduler[0],
    dict(_base_.param_scheduler[1], end=max_epochs, T_max=max_epochs),
]
optim_wrapper = dict(optimizer=dict(lr=5e-4))
train_dataloader = dict(batch_size=32)
custom_hooks = [*_base_.custom_hooks, dict(type='EMAHook', momentum=0.02, update_buffers=True)]
auto_scale_lr = dict(base_batch_size=32)
