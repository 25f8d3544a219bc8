# Published by the authors: box AP 38.3 on COCO val2017 (README of zhangzjn/EMOv2).
# The same detector as at 320x320, anchors included: the recipe changes the input alone. On the three
# coarsest maps they lie 107, 160 and 320 pixels apart, and the pixels of the maps 128, 256 and 512.
# The authors published no ImageNet weights of the 20M network: give your own file with --weights.
_base_ = [
    '../_base_/models/ssdlite_emov2.py',
    '../_base_/datasets/coco_ssdlite_512.py',
    '../_base_/schedules/ssdlite_emov2_coco.py',
    '../_base_/runtime/det.py',
]
model = dict(
    backbone=dict(arch='20m', init_cfg=dict(checkpoint='emov2_20m')),
    neck=dict(in_channels=(320, 448), out_channels=(320, 448, 512, 256, 256, 128)),
    bbox_head=dict(in_channels=(320, 448, 512, 256, 256, 128)),
)
