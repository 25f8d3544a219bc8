_base_ = 'det.py'
default_hooks = dict(checkpoint=dict(save_best='coco/segm_mAP'))
