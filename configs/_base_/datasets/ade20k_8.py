# ADE20K at 512x512: 8 images on each of 4 GPUs.
_base_ = 'ade20k.py'
train_dataloader = dict(batch_size=8)
