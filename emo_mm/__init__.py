"""EMO backbones for OpenMMLab: detection, segmentation and classification.

Importing the package is cheap: neither torch nor a toolbox is imported before it is needed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from emo_mm.version import __version__

if TYPE_CHECKING:
    from emo_mm.configs import build_model, get_config, list_models

__all__ = ['__version__', 'build_model', 'get_config', 'list_models']

_PUBLIC = {'build_model', 'get_config', 'list_models'}


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module('emo_mm.configs'), name)
    raise AttributeError(f"module 'emo_mm' has no attribute {name!r}")
