# EMOv2-1M, distilled: soft labels with weight 5 at temperature 1 from TResNet-L v2 (83.9 % top-1), which timm has.
# Any other classifier can teach: model.teacher is its config, model.teacher_checkpoint its weights.
_base_ = 'emov2_cls.py'
model = dict(
    type='emo_mm.DistilledClassifier',
    teacher=dict(
        type='TimmClassifier',
        model_name='tresnet_v2_l',
        pretrained=True,
        # It sees colours from 0 to 1.
        data_preprocessor=dict(mean=[0.0, 0.0, 0.0], std=[255.0, 255.0, 255.0], to_rgb=True),
    ),
    distill_weight=5.0,
    temperature=1.0,
)
