_base_ = 'cls.py'
# The average of weights and BatchNorm statistics, with decay 0.9998, is what is evaluated and saved as `state_dict`.
custom_hooks = [*_base_.custom_hooks, dict(type='EMAHook', momentum=0.0002, update_buffers=True)]
