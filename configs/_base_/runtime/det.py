_base_ = 'common.py'
default_scope = 'mmdet'
default_hooks = dict(visualization=dict(type='DetVisualizationHook'))
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='CheckInvalidLossHook', interval=50, priority='VERY_LOW'),  # mmdet's own
]
visualizer = dict(type='DetLocalVisualizer', vis_backends={{_base_.vis_backends}})
