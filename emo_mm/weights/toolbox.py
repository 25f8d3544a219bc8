"""Making MMEngine read checkpoint files as safely as this package does.

The runner, the inferencers and ``init_model`` of every toolbox read files through MMEngine's ``CheckpointLoader``,
which, depending on the stack, either falls back to running what the file asks for or refuses MMEngine's own files.
"""

from __future__ import annotations

from typing import Any

from mmengine.runner.checkpoint import CheckpointLoader

from emo_mm.weights.download import resolve_weights
from emo_mm.weights.safe import safe_load


def use_safe_loading() -> None:
    """Let MMEngine read local files and http(s) addresses through :func:`emo_mm.weights.safe.safe_load`.

    This also makes safetensors files and the names of published weights usable wherever MMEngine takes a checkpoint. It
    holds for the whole process; calling it again changes nothing.
    """
    # MMEngine logs what follows ``load_from_`` in the name of the function.
    CheckpointLoader.register_scheme('', load_from_file, force=True)
    CheckpointLoader.register_scheme(('http://', 'https://'), load_from_file, force=True)


def load_from_file(filename: str, map_location: Any = None) -> Any:
    """Read a checkpoint for MMEngine, which asks for its path or address, and where to put the tensors."""
    return safe_load(resolve_weights(filename), 'cpu' if map_location is None else map_location)
