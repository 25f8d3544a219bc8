# A demonstration of ours, no published model: SSDLite-EMO-1M from scratch at 256x256 in minutes on two CPU cores.
_base_ = [
    '../_base_/models/ssdlite_emo.py',
    '../_base_/datasets/shapes_detection.py',
    '../_base_/runtime/det.py',
    '../_base_/schedules/scratch.py',
]
model = dict(
    # Windows of 8 divide the maps of 16x16 and 8x8 pixels: nothing is padded.
    backbone=dict(window_size=8, norm_eval=False, drop_path_rate=0.0, init_cfg=None),
    # The published recipe starts its heads from weights so small that their BatchNorms, with their large eps, hardly
    # pass a signal: hundreds of iterations that a training of minutes does not have.
    neck=dict(norm_cfg=dict(type='BN', _delete_=True), init_cfg=dict(std=0.03)),
    bbox_head=dict(
        num_classes=4,
        norm_cfg=dict(type='BN', _delete_=True),
        init_cfg=dict(std=0.03),
        anchor_generator=dict(
            # Maps of 16x16 cells down to 1x1; boxes from 40 pixels to the whole image.
            strides=[16, 32, 64, 128, 256, 256],
            min_sizes=[40, 90, 130, 170, 210, 240],
            max_sizes=[90, 130, 170, 210, 240, 256],
        ),
    ),
)
custom_hooks = [*_base_.custom_hooks, dict(type='EMAHook', momentum=0.02, update_buffers=True)]
