# A demonstration of ours, no published model: RTMDet-Ins-EMO-1M from scratch at 256x256 in minutes on two CPU cores.
_base_ = [
    '../_base_/models/rtmdet-ins_emo.py',
    '../_base_/datasets/shapes_instances.py',
    '../_base_/runtime/ins.py',
    '../_base_/schedules/scratch.py',
]
model = dict(
    # Windows of 8 divide the maps of 16x16 and 8x8 pixels: nothing is padded.
    backbone=dict(window_size=8, drop_path_rate=0.0, init_cfg=None),
    bbox_head=dict(num_classes=4),
)
# The convolutions of the towers are shared by the levels, and are among the parameters several times.
optim_wrapper = dict(
    paramwise_cfg=dict(_delete_=True, norm_decay_mult=0, bias_decay_mult=0, bypass_duplicate=True),
)
custom_hooks = [*_base_.custom_hooks, dict(type='EMAHook', momentum=0.02, update_buffers=True)]
