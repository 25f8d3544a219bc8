"""EMO backbones for OpenMMLab: detection, segmentation and classification.

Importing the package is cheap: neither torch nor a toolbox is imported before it is needed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from emo_mm.config.inherit import install as _let_configs_inherit
from emo_mm.version import __version__

if TYPE_CHECKING:
    from emo_mm.config.build import build_model
    from emo_mm.config.names import get_config, list_models

__all__ = ['__version__', 'build_model', 'get_config', 'list_models']

_PUBLIC = {
    'build_model': 'emo_mm.config.build',
    'get_config': 'emo_mm.config.names',
    'list_models': 'emo_mm.config.names',
}


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'emo_mm' has no attribute {name!r}")


_let_configs_inherit()
