# As for boxes, with the masks of the objects, whose boxes are measured anew after a crop.
_base_ = 'coco_mosaic_320.py'
load = dict(type='LoadAnnotations', with_bbox=True, with_mask=True)
crop = dict(_base_.plain_pipeline[3], recompute_bbox=True, allow_negative_crop=True)
without_slivers = dict(type='FilterAnnotations', min_gt_bbox_wh=(1, 1))
plain_pipeline = [
    _base_.plain_pipeline[0],
    load,
    _base_.plain_pipeline[2],
    crop,
    without_slivers,
    *_base_.plain_pipeline[4:],
]
train_pipeline = [
    _base_.train_pipeline[0],
    load,
    *_base_.train_pipeline[2:5],
    crop,
    without_slivers,
    *_base_.train_pipeline[6:],
]
test_pipeline = [*_base_.test_pipeline[:2], load, _base_.test_pipeline[3]]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(metric=['bbox', 'segm'])
test_evaluator = val_evaluator
