"""The plain formulation of both families as a network: the oracle of the tests, which is kept beside them."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from emo_mm.errors import UserError
from emo_mm.models.names import official_names


class PlainClassifier(nn.Module):
    """A published classifier, computed by ``tests/reference.py`` with the parameters of one of ours.

    It has no stochastic depth, which in training leaves out a random fiftieth of the blocks at most.

    Args:
        name: Name of the backbone, such as ``emo_1m``.
        model: Our classifier, whose parameters and statistics are used and updated; it must be where it is to run.

    Raises:
        UserError: If this is not a clone: the oracle is not installed with the package.
    """

    def __init__(self, name: str, model: nn.Module) -> None:
        super().__init__()
        self.oracle = _load_oracle()
        self.name = name
        self.model = model
        backbone: Any = model.backbone
        self.window = backbone.window_sizes[-1]
        self.training = model.training
        tensors = model.state_dict(keep_vars=True)  # the parameters themselves, which a training step updates
        self.tensors = {official: tensors[native] for native, official in official_names(tensors).items()}

    def forward(self, images: Tensor) -> Tensor:
        """Return logits of shape (N, 1000) for images of shape (N, 3, H, W)."""
        last = self.oracle.features(self.name, self.tensors, images, self.window, self.training)[-1]
        return self.oracle.logits(last, self.tensors)


def oracle_path() -> Path:
    """Return the file of the plain formulation.

    Raises:
        UserError: If this is not a clone.
    """
    path = Path(__file__).resolve().parents[2] / 'tests' / 'reference.py'
    if not path.is_file():
        raise UserError(
            f'the runtime reference needs {path}, which only a clone has: install with `pip install -e .` there, '
            'or leave reference out of --runtime'
        )
    return path


@cache
def _load_oracle() -> ModuleType:
    spec = importlib.util.spec_from_file_location('emo_mm_plain_formulation', oracle_path())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
