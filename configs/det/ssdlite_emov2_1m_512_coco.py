# Published by the authors: box AP 26.6 on COCO val2017 (README of zhangzjn/EMOv2).
# The same detector as at 320x320, anchors included.
_base_ = [
    '../_base_/models/ssdlite_emov2.py',
    '../_base_/datasets/coco_ssdlite_512.py',
    '../_base_/schedules/ssdlite_emov2_coco.py',
    '../_base_/runtime/det.py',
]
