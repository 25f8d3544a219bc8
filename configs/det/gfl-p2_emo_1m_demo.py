# A demonstration of ours, no published model: GFL-EMO-1M for small objects, with a first map of 4 pixels a cell.
_base_ = 'gfl_emo_1m_demo.py'
model = dict(
    backbone=dict(out_indices=(1, 2, 3, 4)),
    # Narrower than at strides 8 to 32: the first map has four times as many cells as the next.
    neck=dict(in_channels=[32, 48, 80, 168], out_channels=48),
    bbox_head=dict(in_channels=48, feat_channels=48, anchor_generator=dict(strides=[4, 8, 16, 32])),
)
train_dataloader = dict(batch_size=4)
