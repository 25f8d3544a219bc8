"""EMO backbones for OpenMMLab: detection, segmentation and classification.

Importing the package is cheap: neither torch nor a toolbox is imported before it is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from emo_mm.config.inherit import install as _let_configs_inherit
from emo_mm.lazy import lazy_names
from emo_mm.version import __version__

if TYPE_CHECKING:
    from emo_mm.config.build import build_model
    from emo_mm.config.names import get_config, list_models
    from emo_mm.predict.predictor import load_predictor

__all__ = ['__version__', 'build_model', 'get_config', 'list_models', 'load_predictor']

__getattr__ = lazy_names(
    __name__,
    {
        'build_model': 'config.build',
        'get_config': 'config.names',
        'list_models': 'config.names',
        'load_predictor': 'predict.predictor',
    },
)

_let_configs_inherit()
