"""Published and trained weights: where they come from, safe reading, loading with a report, conversion.

The names below are imported on first use, so that listing the weights does not import torch.
"""

from __future__ import annotations

from emo_mm.lazy import lazy_names

# Endings of checkpoints.
CHECKPOINT_SUFFIXES = ('.pth', '.pt', '.safetensors')
_HOMES = {
    'PUBLISHED': 'registry',
    'format_weights_table': 'listing',
    'resolve_weights': 'download',
    'read_checkpoint': 'checkpoint',
    'load_backbone': 'loading',
    'load_model': 'loading',
    'load_weights': 'loading',
    'init_backbone_from': 'loading',
    'convert': 'conversion',
    'use_safe_loading': 'toolbox',
}
__all__ = sorted(_HOMES)
__getattr__ = lazy_names(__name__, _HOMES)
