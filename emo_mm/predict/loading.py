"""The model to predict with: from a config and weights, or from a checkpoint that carries its config."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emo_mm.config.build import build_from_config
from emo_mm.config.carried import config_in, doubt_about
from emo_mm.config.names import find_config, get_config
from emo_mm.config.view import read_view
from emo_mm.data.splits import count, shortlist
from emo_mm.errors import MismatchError, UserError
from emo_mm.weights.hub import local_model
from emo_mm.weights.untrusted.claims import SHARED

if TYPE_CHECKING:
    from mmengine.config import Config
    from torch import nn


@dataclass(frozen=True)
class LoadedModel:
    """A model with all that is known of it.

    Attributes:
        name: Name of the config.
        cfg: The config.
        model: The detector, segmenter or classifier, in eval mode.
        meta: What the checkpoint says about itself.
        weights_sha256: Hash of the tensors.
    """

    name: str
    cfg: Config
    model: nn.Module
    meta: dict[str, Any]
    weights_sha256: str


def load_for_prediction(model: str | Path, weights: str | Path | None = None) -> LoadedModel:
    """Build and load a model.

    Args:
        model: Name or path of a config; or a checkpoint written by ``emo-mm train``, which carries its config.
        weights: A checkpoint of the whole model: a path, an address or a published name. None with a checkpoint as the
            model, and for the published weights of the same network.

    Raises:
        UserError: If something is missing, or does not fit.
    """
    from mmengine.logging import print_log

    from emo_mm.weights import CHECKPOINT_SUFFIXES, load_model, read_checkpoint
    from emo_mm.weights.checkpoint import content_sha256

    model = local_model(model)
    if model.endswith(CHECKPOINT_SUFFIXES):
        if weights is not None:
            raise UserError(
                f'--model {model} is a checkpoint already; with --weights the model is the name of a config'
            )
        weights = model
    elif weights is None:
        weights = _published_weights(str(model))
    checkpoint = read_checkpoint(weights)
    if weights is model:
        cfg = config_in(checkpoint.meta, str(model))
        name = re.sub(r'_\d{8}_\d{6}$', '', str(checkpoint.meta.get('experiment_name') or Path(model).stem))
    else:
        cfg, name = get_config(model), find_config(model).stem
    network = _built_from_file(cfg, checkpoint.path) if weights is model else build_from_config(cfg)
    try:
        load_model(network, checkpoint)
    except MismatchError as error:
        if weights is model or not isinstance(checkpoint.meta.get('cfg'), str):
            raise
        reason = _other_classes(cfg, checkpoint.meta) or error.reason
        raise UserError(
            f'{weights} does not fit {name}: {reason}; --model {weights} alone takes the config '
            'that it was trained with'
        ) from None
    doubt = None if weights is model else doubt_about(cfg, checkpoint.meta, str(weights))
    if doubt:
        print_log(f'{doubt}; --model {weights} takes its own', logger='current', level=logging.WARNING)
    return LoadedModel(name, cfg, network, checkpoint.meta, content_sha256(checkpoint.state_dict))


def _other_classes(cfg: Config, meta: dict[str, Any]) -> str | None:
    """Return in words that a checkpoint was trained for another number of classes than a config has, if it was."""
    trained = (meta.get('dataset_meta') or {}).get('classes')
    counts = {part.node['num_classes'] for part in read_view(cfg, 'test').counting}
    if not isinstance(trained, (list, tuple)) or not counts or len(trained) in counts:
        return None
    named = f'{count(len(trained), "class", "classes")} ({shortlist(list(map(str, trained)), 4)})'
    return f'it was trained on {named}, and the config has {max(counts)}'


def _built_from_file(cfg: Config, path: Path) -> nn.Module:
    """Build the model of a config that came with a file, which may ask for more than memory holds.

    Raises:
        UserError: If it cannot be built, or has several times the parameters that the file has room for.
    """
    from torch.nn.modules.module import register_module_parameter_registration_hook

    room = SHARED * path.stat().st_size

    def count(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal room
        room -= parameter.numel() * parameter.element_size() if parameter is not None else 0
        if room < 0:
            raise ValueError('its parameters would not fit into the file')

    # called before a parameter gets its values, and thereby memory
    handle = register_module_parameter_registration_hook(count)
    try:
        return build_from_config(cfg)
    except UserError:
        raise
    except Exception as error:  # what a class of a toolbox says to settings it does not take
        raise UserError(f'{path} carries a config whose model cannot be built: {error}') from None
    finally:
        handle.remove()


def _published_weights(model: str) -> str:
    from emo_mm.config.catalog import CATALOG

    entry = CATALOG.get(find_config(model).stem)
    if entry is None or entry.weights is None:
        raise UserError(f'--model {model} has no published weights: give a trained checkpoint with --weights')
    return entry.weights
