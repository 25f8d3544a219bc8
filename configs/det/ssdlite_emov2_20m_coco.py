# Published by the authors: box AP 33.1 on COCO val2017 (README of zhangzjn/EMOv2).
# The authors published no ImageNet weights of the 20M network: give your own file with --weights.
_base_ = [
    '../_base_/models/ssdlite_emov2.py',
    '../_base_/datasets/coco_ssdlite_320.py',
    '../_base_/schedules/ssdlite_emov2_coco.py',
    '../_base_/runtime/det.py',
]
model = dict(
    backbone=dict(arch='20m', init_cfg=dict(checkpoint='emov2_20m')),
    neck=dict(in_channels=(320, 448), out_channels=(320, 448, 512, 256, 256, 128)),
    bbox_head=dict(in_channels=(320, 448, 512, 256, 256, 128)),
)
