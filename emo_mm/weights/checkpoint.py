"""The layouts of checkpoint files: which of their dicts is the network."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from emo_mm.errors import UserError
from emo_mm.files import atomic_write
from emo_mm.models.names import CONTAINERS
from emo_mm.weights.cache import identify
from emo_mm.weights.download import resolve_weights
from emo_mm.weights.registry import PublishedWeights
from emo_mm.weights.untrusted.safe import METADATA_KEY, safe_load

_THRESHOLD = 'score_threshold'  # in what emo_mm adds to ``meta``
_BACKBONES = ('EMO', 'EMOv2', 'emo_mm.EMO', 'emo_mm.EMOv2')


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of one file.

    Attributes:
        path: The file.
        state_dict: The tensors by their names in the file, without ``module.`` of a data-parallel wrapper.
        meta: What the file says about itself: MMEngine's ``meta``, or that of a converted file.
        layout: Where in the file the tensors were: ``flat`` or one of ``CONTAINERS``.
        published: The published weights that the file is, if it is any.
    """

    path: Path
    state_dict: dict[str, Tensor]
    meta: dict[str, Any]
    layout: str
    published: PublishedWeights | None = None

    @property
    def window_size(self) -> int | tuple[int, ...] | None:
        """Side of the attention windows that the weights were trained with; None if the file does not say."""
        if self.published is not None:
            return self.published.window_size
        found = self.meta.get(METADATA_KEY, {}).get('window_size')
        if found is None:
            found = window_size_in_config(self.meta.get('cfg'))
        return tuple(found) if isinstance(found, (list, tuple)) else found


def read_checkpoint(spec: str | PathLike[str]) -> Checkpoint:
    """Read weights given as a path, a published name or an address, running nothing in the file.

    Raises:
        UserError: If the file cannot be loaded, is not a checkpoint, holds no network or fails its own content hash.
    """
    path = resolve_weights(spec)
    content = safe_load(path)
    if not isinstance(content, Mapping):
        raise UserError(f'{path} holds a {type(content).__name__}, not a state dict')
    layout = next((key for key in CONTAINERS if isinstance(content.get(key), Mapping) and content[key]), 'flat')
    state_dict = dict(content) if layout == 'flat' else dict(content[layout])
    if not state_dict:
        raise UserError(f'{path} holds no tensors')
    for key, value in state_dict.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise UserError(
                f'{path} is no checkpoint of a known layout: {key!r} holds a {type(value).__name__}, not a tensor; '
                f'it must be a dict of tensors, or hold one under {", ".join(CONTAINERS)}'
            )
    while all(key.startswith('module.') for key in state_dict):
        state_dict = {key.removeprefix('module.'): value for key, value in state_dict.items()}
    meta = content.get('meta') if layout != 'flat' else None
    meta = dict(meta) if isinstance(meta, Mapping) else {}
    if not isinstance(meta.get(METADATA_KEY, {}), Mapping):
        raise UserError(f"{path} is damaged: its meta['{METADATA_KEY}'] is not a dict")
    expected = meta.get(METADATA_KEY, {}).get('content_sha256')
    if expected is not None and expected != content_sha256(state_dict):
        raise UserError(f'{path} is damaged: its tensors do not match its content hash; copy or download it again')
    return Checkpoint(path, state_dict, meta, layout, identify(path))


def threshold_in(meta: Mapping[str, Any]) -> float | None:
    """Return the score from which on boxes are best shown, as the training found it; None if ``meta`` has none."""
    found = meta.get(METADATA_KEY, {}).get(_THRESHOLD)
    fits = isinstance(found, (int, float)) and not isinstance(found, bool) and 0 <= found <= 1
    return float(found) if fits else None


def note_threshold(path: Path, threshold: float) -> None:
    """Write into a checkpoint from which score on boxes are best shown; the file is complete at any time.

    Raises:
        UserError: If the file cannot be loaded.
        OSError: If it cannot be written; the former one stays.
    """
    content = safe_load(path)
    meta = content.setdefault('meta', {})
    meta[METADATA_KEY] = {**meta.get(METADATA_KEY, {}), _THRESHOLD: threshold}
    with atomic_write(path) as file:
        torch.save(content, file)


def content_sha256(state_dict: Mapping[str, Tensor]) -> str:
    """Return a hash of names, types, shapes and values, whatever the order of the tensors or the file around them."""
    digest = hashlib.sha256()
    for key in sorted(state_dict):
        tensor = state_dict[key].detach().cpu().contiguous()
        digest.update(f'{key} {tensor.dtype} {tuple(tensor.shape)}\n'.encode())
        # bytes of the values, (numel * itemsize,); NumPy has no bfloat16 to go through
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def window_size_in_config(text: Any) -> int | list[int] | None:
    """Return the window size of the EMO or EMOv2 backbone in a config's text, which is parsed but never run.

    MMEngine writes the config of a run as plain assignments; a text that is anything else says nothing.
    """
    if not isinstance(text, str):
        return None
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return None
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict'):
            continue
        arguments = {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg is not None}
        kind = arguments.get('type')
        if not (isinstance(kind, ast.Constant) and kind.value in _BACKBONES):
            continue
        if 'window_size' not in arguments:
            return 7  # the default of the backbone
        try:
            value = ast.literal_eval(arguments['window_size'])
        except ValueError:
            return None
        return list(value) if isinstance(value, tuple) else value
    return None
