# As at 224x224, at 512x512: resized to 585 (512 / 0.875) and cropped at the centre in tests.
_base_ = 'imagenet_224.py'
input_size = 512
train_pipeline = [
    _base_.train_pipeline[0],
    dict(
        type='RandomChoice',  # of the interpolation
        transforms=[
            [dict(type='RandomResizedCrop', scale=input_size, backend='pillow', interpolation='bilinear')],
            [dict(type='RandomResizedCrop', scale=input_size, backend='pillow', interpolation='bicubic')],
        ],
    ),
    *_base_.train_pipeline[2:],
]
test_pipeline = [
    _base_.test_pipeline[0],
    dict(type='ResizeEdge', scale=585, edge='short', backend='pillow', interpolation='bicubic'),
    dict(type='CenterCrop', crop_size=input_size),
    _base_.test_pipeline[3],
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
