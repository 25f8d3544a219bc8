# The EMO-1M classifier of ImageNet.
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(
        type='ClsDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=True,
    ),
    backbone=dict(type='emo_mm.EMO', arch='1m', out_indices=(4,), window_size=7),
    head=dict(
        type='emo_mm.EMOClsHead',
        num_classes=1000,
        in_channels=168,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1),
    ),
)
