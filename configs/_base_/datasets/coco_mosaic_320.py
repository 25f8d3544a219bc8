# COCO 2017 at 320x320 with RTMDet's augmentation: mosaic and mixup of images that a worker keeps, and plainer images in
# the last fifteenth of the training. Images keep their aspect ratio.
_base_ = 'coco_detection.py'
input_size = 320
pad_val = (124, 116, 104)  # the mean: 0 for the network, as what the data preprocessor pads with

plain_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomResize', scale=(input_size, input_size), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(input_size, input_size)),
    dict(type='YOLOXHSVRandomAug'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='Pad', size=(input_size, input_size), pad_val=dict(img=pad_val)),
    dict(type='PackDetInputs'),
]
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    # The mosaic does this itself; done here, it keeps small images instead of whole photographs.
    dict(type='Resize', scale=(input_size, input_size), keep_ratio=True),
    dict(
        type='CachedMosaic',
        img_scale=(input_size, input_size),
        pad_val=114.0,
        max_cached_images=20,
        random_pop=False,
    ),
    dict(type='RandomResize', scale=(2 * input_size, 2 * input_size), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(input_size, input_size)),
    dict(type='YOLOXHSVRandomAug'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='Pad', size=(input_size, input_size), pad_val=dict(img=pad_val)),
    dict(
        type='CachedMixUp',
        img_scale=(input_size, input_size),
        ratio_range=(1.0, 1.0),
        max_cached_images=10,
        random_pop=False,
        pad_val=pad_val,
        prob=0.5,
    ),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(input_size, input_size), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
train_dataloader = dict(batch_size=32, batch_sampler=None, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(batch_size=8, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
