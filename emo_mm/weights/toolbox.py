"""Making MMEngine read checkpoint files as safely as this package does.

The runner, the inferencers and ``init_model`` of every toolbox read files through MMEngine's ``CheckpointLoader``,
which, depending on the stack, either falls back to running what the file asks for or refuses MMEngine's own files.
"""

from __future__ import annotations

import logging
from typing import Any

from mmengine.logging import print_log
from mmengine.runner import checkpoint as mmengine_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader

from emo_mm.errors import UserError
from emo_mm.weights.download import resolve_weights
from emo_mm.weights.untrusted.embedded import without_programs
from emo_mm.weights.untrusted.safe import safe_load

_STORES = ('pavi://', r'(\S+\:)?s3://', r'(\S+\:)?petrel://')


def use_safe_loading() -> None:
    """Let MMEngine read local files and http(s) addresses through :func:`emo_mm.weights.untrusted.safe.safe_load`.

    This also makes safetensors files and the names of published weights usable wherever MMEngine takes a checkpoint.
    The names of other libraries (``torchvision://``, ``open-mmlab://``, ``mmcls://``) lead to addresses, which are read
    in the same way; object stores are refused. It holds for the whole process; calling it again changes nothing.
    """
    # MMEngine logs what follows ``load_from_`` in the name of the function.
    CheckpointLoader.register_scheme('', load_from_file, force=True)
    CheckpointLoader.register_scheme(('http://', 'https://'), load_from_file, force=True)
    CheckpointLoader.register_scheme(_STORES, load_from_store, force=True)
    # what the schemes of names call with the address that they find, and with a file in MMEngine's own folder
    mmengine_checkpoint.load_from_http = load_from_file
    if hasattr(mmengine_checkpoint, '_safe_torch_load'):
        mmengine_checkpoint._safe_torch_load = load_from_file


def load_from_file(filename: str, map_location: Any = None) -> Any:
    """Read a checkpoint for MMEngine, which asks for its path or address, and where to put the tensors.

    A config in it that is more than plain values is left out: MMEngine would run it.
    """
    content = safe_load(resolve_weights(filename), 'cpu' if map_location is None else map_location)
    removed = without_programs(content) if isinstance(content, dict) else []
    if removed:
        print_log(
            f'{filename}: {", ".join(removed)} is more than plain values and is left out; it would have been run. '
            'Who needs the config of this model gives it by name or path',
            logger='current',
            level=logging.WARNING,
        )
    if isinstance(content, dict):
        _use_tuples_for_colours(content.get('meta'))
    return content


def _use_tuples_for_colours(meta: Any) -> None:
    """Make the colours of the classes tuples: mmdet's drawing takes a list for several colours, and fails."""
    known = meta.get('dataset_meta') if isinstance(meta, dict) else None
    colours = known.get('palette') if isinstance(known, dict) else None
    if isinstance(colours, (list, tuple)) and isinstance(known, dict):
        known['palette'] = [tuple(colour) if isinstance(colour, list) else colour for colour in colours]


def load_from_store(filename: str, map_location: Any = None) -> Any:
    """Refuse a checkpoint in an object store.

    Raises:
        UserError: Always.
    """
    raise UserError(f'{filename}: weights are read from files and http(s) addresses; copy it here and give the path')
