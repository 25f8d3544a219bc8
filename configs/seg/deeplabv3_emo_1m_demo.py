# A demonstration of ours, no published model: DeepLabv3-EMO-1M from scratch in minutes on two CPU cores.
_base_ = [
    '../_base_/models/deeplabv3_emo.py',
    '../_base_/datasets/shapes_segmentation.py',
    '../_base_/runtime/seg.py',
    '../_base_/schedules/scratch_iters.py',
]
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    backbone=dict(drop_path_rate=0.0, init_cfg=None),
    # The map that the head sees is 10 cells wide: wider dilations than these see its border only.
    decode_head=dict(num_classes=5, dilations=(1, 2, 4, 6)),
    auxiliary_head=dict(num_classes=5),
)
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=100))
