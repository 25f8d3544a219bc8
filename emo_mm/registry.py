"""The MMEngine registry scope ``emo_mm``.

MMEngine imports ``<scope>.registry`` when it meets a name such as ``emo_mm.EMO``, so this module needs no
``custom_imports`` in a config. It must stay cheap: a segmentation user may not have mmdet at all. Every component is
therefore listed here by name and its module is imported only when the name is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import LOOPS as MMENGINE_LOOPS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import VISBACKENDS as MMENGINE_VISBACKENDS
from mmengine.registry import WEIGHT_INITIALIZERS as MMENGINE_INITIALIZERS
from mmengine.registry import Registry


class LazyRegistry(Registry):
    """A registry that imports the module of a component when its name is first looked up.

    Args:
        name: Kind of component, as MMEngine names it (``model``, ``hook``, ...).
        parent: MMEngine's root registry of that kind.
        modules: Component name to the module that registers it.
    """

    def __init__(self, name: str, parent: Registry, modules: dict[str, str]) -> None:
        # A location must be named, or MMEngine looks for one of its own; this module is imported already.
        super().__init__(name, parent=parent, scope='emo_mm', locations=['emo_mm.registry'])
        self.lazy_modules = modules

    def function(self, name: str) -> Callable[..., Any]:
        """Return the function registered as ``name``, which rooms below that of the function call by its name."""
        found = self.get(name)
        assert found is not None  # listed below
        return found

    def get(self, key: str) -> Any:
        """Return the component called ``key``, importing its module on the first request."""
        name = key.removeprefix('emo_mm.')
        if name in self.lazy_modules and name not in self.module_dict:
            import_module(self.lazy_modules[name])
        return super().get(key)


MODELS = LazyRegistry(
    'model',
    MMENGINE_MODELS,
    {
        'EMO': 'emo_mm.models.emo',
        'EMOv2': 'emo_mm.models.emov2',
        'SSDLiteHead': 'emo_mm.models.heads.ssdlite_head',
        'SepNormGFLHead': 'emo_mm.models.heads.sep_norm_gfl_head',
        'EMOClsHead': 'emo_mm.models.heads.cls_head',
        'DistilledClassifier': 'emo_mm.models.distilled_classifier',
        'WeightedCrossEntropyLoss': 'emo_mm.models.weighted_loss',
    },
)
HOOKS = LazyRegistry(
    'hook',
    MMENGINE_HOOKS,
    {
        'PlainCheckpointHook': 'emo_mm.engine.hooks',
        'ProgressHook': 'emo_mm.engine.hooks',
        'FiniteHook': 'emo_mm.engine.guard.finite',
        'SafeCheckpointHook': 'emo_mm.engine.resume.checkpoints',
        'ValLossHook': 'emo_mm.engine.val_loss',
        'LastEpochsHook': 'emo_mm.engine.last_epochs',
    },
)
LOOPS = LazyRegistry(
    'loop',
    MMENGINE_LOOPS,
    {
        'ResumableEpochLoop': 'emo_mm.engine.resume.loops',
        'ResumableIterLoop': 'emo_mm.engine.resume.loops',
    },
)
DATASETS = LazyRegistry('dataset', MMENGINE_DATASETS, {})
TRANSFORMS = LazyRegistry(
    'transform',
    MMENGINE_TRANSFORMS,
    {
        'Expand': 'emo_mm.data.speed.box_transforms',
        'MinIoURandomCrop': 'emo_mm.data.speed.box_transforms',
        'LoadCachedImage': 'emo_mm.data.speed.loading',
        'LoadResizedImage': 'emo_mm.data.speed.loading',
    },
)
METRICS = LazyRegistry('metric', MMENGINE_METRICS, {})
VISBACKENDS = LazyRegistry('visualization backend', MMENGINE_VISBACKENDS, {'Tracker': 'emo_mm.engine.trackers'})
INITIALIZERS = LazyRegistry(
    'weight initializer',
    MMENGINE_INITIALIZERS,
    {
        'LayerScaleInit': 'emo_mm.models.layer_scale_init',
        'init_backbone_from': 'emo_mm.weights.loading',
        'load_exactly': 'emo_mm.weights.loading',
    },
)
