# Published by the authors: box AP 37.1, mask AP 35.0 on COCO val2017 (README of zhangzjn/EMOv2).
_base_ = [
    '../_base_/models/mask-rcnn_emov2.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/coco_1x_emov2.py',
    '../_base_/runtime/ins.py',
]
