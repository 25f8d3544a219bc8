"""The models that configs describe."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING

from emo_mm.config.check import explained
from emo_mm.config.names import get_config
from emo_mm.config.widths import check_widths
from emo_mm.errors import UserError

if TYPE_CHECKING:
    from mmengine.config import Config
    from torch import nn


def build_model(name: str | Path, weights: str | Path | None = None) -> nn.Module:
    """Build the detector, segmenter or classifier of a config, in eval mode.

    Args:
        name: Name or path of the config.
        weights: A checkpoint of the whole model, or weights of its backbone: a path, an address or the name of
            published weights. None leaves the random values the layers are made with; ``init_weights()`` of the
            model draws those to train from.

    Raises:
        UserError: If the config or the weights cannot be loaded, or do not fit each other.
    """
    model = build_from_config(get_config(name))
    if weights is not None:
        from emo_mm.weights import load_weights

        load_weights(model, weights)
    return model


def build_from_config(cfg: Config) -> nn.Module:
    """Build the model of a config that was read, with random weights, in eval mode.

    Raises:
        UserError: If the toolbox of the config cannot be imported, or the config describes no model that can be built.
    """
    from mmengine.registry import MODELS, DefaultScope

    from emo_mm.compat import register_toolbox

    where = cfg.filename or 'config'
    model = cfg.get('model')
    if not isinstance(model, dict) or not isinstance(model.get('backbone'), dict):
        raise UserError(f'{where}: it has no model with a backbone')
    register_toolbox(cfg.get('default_scope'))
    check_widths(cfg)
    model = copy.deepcopy(model)  # the toolboxes change the parts as they build them
    model['backbone'].pop('init_cfg', None)  # the weights to start a training from
    try:
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            return MODELS.build(model).eval()
    except UserError:
        raise
    except Exception as error:  # a network may raise anything at wrong settings
        raise UserError(f'{where}: the model cannot be built: {explained(error)}') from error
