# GFL's head on the same neck as RTMDet's, on stages 2 to 4 of EMO-1M. Ours, unpublished.
_base_ = 'rtmdet_emo.py'
model = dict(
    type='GFL',
    bbox_head=dict(
        _delete_=True,
        type='emo_mm.SepNormGFLHead',
        num_classes=80,
        in_channels=64,
        feat_channels=64,
        stacked_convs=2,
        reg_max=8,
        norm_cfg=_base_.norm_cfg,
        # For the assignment only: boxes are predicted as distances from the centres of the cells.
        anchor_generator=dict(
            type='AnchorGenerator', ratios=[1.0], octave_base_scale=5, scales_per_octave=1, strides=[8, 16, 32]
        ),
        loss_cls=dict(type='QualityFocalLoss', use_sigmoid=True, beta=2.0, loss_weight=1.0),
        loss_dfl=dict(type='DistributionFocalLoss', loss_weight=0.25),
        loss_bbox=dict(type='GIoULoss', loss_weight=2.0),
    ),
    train_cfg=dict(
        _delete_=True, assigner=dict(type='ATSSAssigner', topk=9), allowed_border=-1, pos_weight=-1, debug=False
    ),
    test_cfg=dict(nms=dict(iou_threshold=0.6)),
)
