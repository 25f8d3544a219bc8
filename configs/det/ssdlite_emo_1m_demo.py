# A demonstration of ours, no published model: SSDLite-EMO-1M from scratch at 256x256 in minutes on two CPU cores.
_base_ = [
    '../_base_/models/ssdlite_emo.py',
    '../_base_/datasets/shapes_detection.py',
    '../_base_/runtime/det.py',
    '../_base_/schedules/scratch.py',
]
model = dict(
    backbone=dict(norm_eval=False, drop_path_rate=0.0, init_cfg=None),
    bbox_head=dict(
        num_classes=5,
        anchor_generator=dict(
            # One map of 16x16 cells, down to 1x1; boxes from 28 pixels to the whole image.
            strides=[16, 32, 64, 128, 256, 256],
            min_sizes=[28, 60, 100, 140, 180, 220],
            max_sizes=[60, 100, 140, 180, 220, 256],
        ),
    ),
)
custom_hooks = [*_base_.custom_hooks, dict(type='EMAHook', momentum=0.01, update_buffers=True)]
