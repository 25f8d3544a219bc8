from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch

GOLDEN = Path(__file__).parents[1] / 'data' / 'golden'


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of its own for every test: the user's must neither help nor suffer."""
    monkeypatch.setenv('EMO_MM_CACHE', str(tmp_path / 'cache'))
    return tmp_path / 'cache' / 'weights'


@pytest.fixture(scope='session')
def official():
    """A function giving the state dict of a published network, with the golden values under the official names."""
    spec = importlib.util.spec_from_file_location('golden_weights', GOLDEN / 'weights.py')
    golden = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(golden)
    shapes = json.loads((GOLDEN / 'state_dict_keys.json').read_text())

    def state_dict(name: str) -> dict[str, torch.Tensor]:
        return {key: torch.from_numpy(golden.fill(key, tuple(shape))) for key, shape in shapes[name].items()}

    return state_dict
