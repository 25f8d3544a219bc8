# ImageNet-1K at 224x224: 256 images on each of 8 GPUs.
dataset_type = 'ImageNet'
data_root = 'data/imagenet/'
# Colours as OpenCV reads them, blue first.
bgr_mean = [103.53, 116.28, 123.675]

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='RandomChoice',  # of the interpolation
        transforms=[
            [dict(type='RandomResizedCrop', scale=224, backend='pillow', interpolation='bilinear')],
            [dict(type='RandomResizedCrop', scale=224, backend='pillow', interpolation='bicubic')],
        ],
    ),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(  # rand-m9-mstd0.5-inc1
        type='RandAugment',
        policies='timm_increasing',
        num_policies=2,
        total_level=10,
        magnitude_level=9,
        magnitude_std=0.5,
        hparams=dict(pad_val=[round(x) for x in bgr_mean], interpolation='bicubic'),
    ),
    # The recipe lists jitter beside RandAugment, so both are here. timm's own loader, whose notation the policy above
    # is in, drops the jitter where there is a policy unless it is forced: leave this line out to follow it.
    dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=256, edge='short', backend='pillow', interpolation='bicubic'),
    dict(type='CenterCrop', crop_size=224),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=256,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type=dataset_type, data_root=data_root, split='train', pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=128,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type=dataset_type, data_root=data_root, split='val', pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=(1, 5))
test_evaluator = val_evaluator
