"""The golden cases: what the authors' networks answer on weights that are a function of their names."""

from __future__ import annotations

import functools
import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emo_mm.models import EMO, EMOv2
from emo_mm.models.pyramid import MobilePyramid

FOLDER = Path(__file__).parent / 'data' / 'golden'
_spec = importlib.util.spec_from_file_location('golden_weights', FOLDER / 'weights.py')
_weights = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_weights)


def cases(mode: str) -> list[dict[str, Any]]:
    """Return the cases of both families, ``eval`` or ``train``."""
    return [row for row in json.loads((FOLDER / 'cases.json').read_text()) if row['mode'] == mode]


def backbone(model: str, **kwargs: Any) -> MobilePyramid:
    """Build the backbone of a published network, such as ``emov2_5m``, with random weights."""
    family, arch = model.split('_')
    return {'emo': EMO, 'emov2': EMOv2}[family](arch, **kwargs)


def case_id(case: dict[str, Any]) -> str:
    return f'{case["model"]}-{"x".join(map(str, case["shape"]))}-w{case["window_size"]}'


@functools.cache
def key_shapes(model: str) -> dict[str, tuple[int, ...]]:
    """Return every official name of a network and its shape."""
    table = json.loads((FOLDER / 'state_dict_keys.json').read_text())[model]
    items = table.items() if isinstance(table, dict) else table
    return {key: tuple(shape) for key, shape in items}


def state_dict(model: str) -> dict[str, Tensor]:
    """Return a fresh official state dict, classifier included."""
    return {key: tensor(key, shape) for key, shape in key_shapes(model).items()}


def tensor(name: str, shape: tuple[int, ...]) -> Tensor:
    """Return values for a tensor that is no part of a published network, such as a head's."""
    return torch.from_numpy(np.asarray(_weights.fill(name, shape)))


def image(case: dict[str, Any]) -> Tensor:
    return torch.from_numpy(_weights.image(case['seed'], tuple(case['shape'])))


def answers(case: dict[str, Any]) -> dict[str, np.ndarray]:
    with np.load(FOLDER / case['file']) as arrays:
        return dict(arrays)


def sample(x: Tensor, n: int = 256) -> np.ndarray:
    return _weights.sample(x.detach().numpy(), n)
