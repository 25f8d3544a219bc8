# As at 320x320, at 416x416.
_base_ = 'coco_mosaic_320.py'
input_size = (416, 416)
canvas = (2 * 416, 2 * 416)  # of a mosaic
crop = dict(type='RandomCrop', crop_size=input_size)
pad = dict(type='Pad', size=input_size, pad_val=dict(img=_base_.pad_val))
resize = dict(type='Resize', scale=input_size, keep_ratio=True)
plain_pipeline = [
    *_base_.plain_pipeline[:2],
    dict(type='RandomResize', scale=input_size, ratio_range=(0.5, 2.0), keep_ratio=True),
    crop,
    *_base_.plain_pipeline[4:6],
    pad,
    _base_.plain_pipeline[7],
]
train_pipeline = [
    *_base_.train_pipeline[:2],
    resize,
    dict(_base_.train_pipeline[3], img_scale=input_size),
    dict(type='RandomResize', scale=canvas, ratio_range=(0.5, 2.0), keep_ratio=True),
    crop,
    *_base_.train_pipeline[6:8],
    pad,
    dict(_base_.train_pipeline[9], img_scale=input_size),
    _base_.train_pipeline[10],
]
test_pipeline = [_base_.test_pipeline[0], resize, *_base_.test_pipeline[2:]]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
