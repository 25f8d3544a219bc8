# Published by the authors: box AP 34.4 on COCO val2017 (README of zhangzjn/EMO).
_base_ = [
    '../_base_/models/retinanet_emo.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/retinanet_coco.py',
    '../_base_/runtime/det.py',
]
