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
optim_wrapper = dict(optimizer=dict(lr=2e-3))
custom_hooks = [*_base_.custom_hooks, dict(type='EMAHook', momentum=0.01, update_buffers=True)]
auto_scale_lr = dict(base_batch_size=16)
