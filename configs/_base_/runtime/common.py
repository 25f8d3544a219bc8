# What every config shares, whatever the task.
# Names of published weights, read safely, wherever the toolboxes themselves read a checkpoint.
custom_imports = dict(imports=['emo_mm.weights.enable_safe_loading'])
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', interval=1, save_best='auto', max_keep_ckpts=3),
    sampler_seed=dict(type='DistSamplerSeedHook'),
)
custom_hooks = [
    # Checkpoints that load without unpickling objects, on either OpenMMLab stack.
    dict(type='emo_mm.PlainCheckpointHook'),
]
env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
sync_bn = 'torch'  # takes effect in distributed training only
# The visualizers have no name: each run of a process then has its own, which logs to its own work directory.
vis_backends = [dict(type='LocalVisBackend')]
log_processor = dict(type='LogProcessor', window_size=50, by_epoch=True)
log_level = 'INFO'
load_from = None
resume = False
