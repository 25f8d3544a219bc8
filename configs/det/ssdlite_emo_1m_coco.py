# Published by the authors: box AP 22.0 on COCO val2017 (README of zhangzjn/EMO).
_base_ = [
    '../_base_/models/ssdlite_emo.py',
    '../_base_/datasets/coco_ssdlite_320.py',
    '../_base_/schedules/ssdlite_coco.py',
    '../_base_/runtime/det.py',
]
