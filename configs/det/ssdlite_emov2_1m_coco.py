# Published by the authors: box AP 22.3 on COCO val2017 (README of zhangzjn/EMOv2).
_base_ = [
    '../_base_/models/ssdlite_emov2.py',
    '../_base_/datasets/coco_ssdlite_320.py',
    '../_base_/schedules/ssdlite_emov2_coco.py',
    '../_base_/runtime/det.py',
]
