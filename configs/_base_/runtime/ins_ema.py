_base_ = 'det_ema.py'
default_hooks = dict(checkpoint=dict(save_best='coco/segm_mAP'))
