# As at 320x320, at 512x512.
_base_ = 'coco_ssdlite_320.py'
input_size = 512
resize = dict(type='Resize', scale=(input_size, input_size), keep_ratio=False)
train_pipeline = [*_base_.train_pipeline[:4], resize, *_base_.train_pipeline[5:]]
test_pipeline = [_base_.test_pipeline[0], resize, *_base_.test_pipeline[2:]]
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=train_pipeline)))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
