# RTMDet-Ins: RTMDet's head with a mask for each object, made by kernels that the head predicts. Ours, unpublished.
_base_ = 'rtmdet_emo.py'
model = dict(
    data_preprocessor=dict(pad_mask=True),
    bbox_head=dict(
        _delete_=True,
        type='RTMDetInsSepBNHead',
        num_classes=80,
        in_channels=64,
        feat_channels=64,
        stacked_convs=2,
        share_conv=True,
        pred_kernel_size=1,
        with_objectness=False,
        anchor_generator=dict(type='MlvlPointGenerator', offset=0, strides=[8, 16, 32]),
        bbox_coder=dict(type='DistancePointBBoxCoder'),
        loss_cls=dict(type='QualityFocalLoss', use_sigmoid=True, beta=2.0, loss_weight=1.0),
        loss_bbox=dict(type='GIoULoss', loss_weight=2.0),
        loss_mask=dict(type='DiceLoss', loss_weight=2.0, eps=5e-6, reduction='mean'),
        norm_cfg=_base_.norm_cfg,
        act_cfg=_base_.act_cfg,
    ),
    test_cfg=dict(nms=dict(type='nms', iou_threshold=0.6), max_per_img=100, mask_thr_binary=0.5),
)
