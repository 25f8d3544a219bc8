"""Writing checkpoints for sharing: the tensors of the network, what they mean, and nothing else."""

from __future__ import annotations

import ast
import io
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from emo_mm.errors import UserError
from emo_mm.files import write_bytes
from emo_mm.models.names import native_names, official_names
from emo_mm.version import __version__
from emo_mm.weights.checkpoint import Checkpoint, content_sha256, read_checkpoint
from emo_mm.weights.untrusted.safe import METADATA_KEY

LAYOUTS = ('native', 'official')
FORMATS = ('safetensors', 'pth')
# Settings of a run, not of the network; they name folders of the machine it ran on.
_PRIVATE_SETTINGS = ('work_dir', 'load_from', 'resume', 'launcher')


def convert(
    src: str | os.PathLike[str], out_dir: str | os.PathLike[str] = '.', to: str = 'native', fmt: str = 'safetensors'
) -> Path:
    """Write an official or trained checkpoint as a clean file, and return its path.

    The file holds the tensors of the network (no optimizer, no logs), and beside them the classes, the text of the
    config, the window size and the origin. The name ends in the first eight hex digits of a hash of the tensors. A
    ``.pth`` in the official layout is a plain dict of tensors, as the authors' files are, and holds none of the texts.

    Args:
        src: Path, published name or address.
        out_dir: Folder of the new file, made if need be.
        to: ``native``: our names, with ``backbone.``; ``official``: the names of the published files.
        fmt: ``safetensors`` or ``pth``.

    Raises:
        ValueError: If ``to`` or ``fmt`` is not one of these.
        UserError: If the source cannot be read or is not of an EMO network, or if the file cannot be written.
    """
    if to not in LAYOUTS:
        raise ValueError(f'to is {to!r}; it must be one of {", ".join(LAYOUTS)}')
    if fmt not in FORMATS:
        raise ValueError(f'fmt is {fmt!r}; it must be one of {", ".join(FORMATS)}')
    checkpoint = read_checkpoint(src)
    native = _renamed(checkpoint.state_dict, native_names(checkpoint.state_dict))
    try:
        official = official_names(native)
    except KeyError as error:
        raise UserError(f'{checkpoint.path} is not of an EMO network: it holds backbone.{error.args[0]}') from None
    state_dict = native if to == 'native' else _renamed(native, official)
    sha256 = content_sha256(state_dict)
    meta = _meta(checkpoint, to, sha256)
    target = Path(out_dir).expanduser() / f'{_stem(checkpoint)}_{to}-{sha256[:8]}.{fmt}'
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(target, _serialized(state_dict, meta, to, fmt))
    except OSError as error:
        raise UserError(f'{target} cannot be written: {error.strerror}') from None
    return target


def _renamed(state_dict: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    # Copies of their own memory: views would carry the whole storage that they look into along.
    return {names[key]: value.detach().contiguous().clone() for key, value in state_dict.items()}


def _serialized(state_dict: dict[str, Tensor], meta: dict[str, Any], to: str, fmt: str) -> bytes:
    if fmt == 'safetensors':
        return save(state_dict, metadata={'format': 'pt', METADATA_KEY: json.dumps(meta)})
    buffer = io.BytesIO()
    torch.save(state_dict if to == 'official' else {'state_dict': state_dict, 'meta': meta}, buffer)
    return buffer.getvalue()


def _meta(checkpoint: Checkpoint, to: str, sha256: str) -> dict[str, Any]:
    """Return the texts of the new file, of JSON types only, under the names that MMEngine reads."""
    meta: dict[str, Any] = {}
    dataset_meta = checkpoint.meta.get('dataset_meta')
    if isinstance(dataset_meta, Mapping):
        meta['dataset_meta'] = {
            key: _plain(dataset_meta[key]) for key in ('classes', 'palette') if dataset_meta.get(key) is not None
        }
    if isinstance(checkpoint.meta.get('cfg'), str):
        meta['cfg'] = _shared_config(checkpoint.meta['cfg'])
    meta[METADATA_KEY] = {
        'layout': to,
        'content_sha256': sha256,
        'window_size': _plain(checkpoint.window_size),
        'origin': _origin(checkpoint),
        'converted_by': f'emo_mm {__version__}',
    }
    return meta


def _origin(checkpoint: Checkpoint) -> dict[str, Any]:
    row = checkpoint.published
    if row is not None:
        return {
            'name': row.name,
            'url': row.url,
            'git_blob_sha1': row.git_blob_sha1,
            'note': 'published by the authors of EMO, whose terms apply',
        }
    # A file that was converted before keeps its origin.
    earlier = checkpoint.meta.get(METADATA_KEY, {}).get('origin')
    if isinstance(earlier, Mapping):
        return dict(earlier)
    known = {key: checkpoint.meta.get(key) for key in ('experiment_name', 'epoch', 'iter', 'mmengine_version')}
    return {'name': checkpoint.path.name, **{key: _plain(value) for key, value in known.items() if value is not None}}


def _stem(checkpoint: Checkpoint) -> str:
    if checkpoint.published is not None:
        return checkpoint.published.name
    experiment = checkpoint.meta.get('experiment_name')
    if isinstance(experiment, str):
        # MMEngine appends the time of the start.
        return re.sub(r'\W', '_', re.sub(r'_\d{8}_\d{6}$', '', experiment)) + f'_{checkpoint.path.stem}'
    return re.sub(r'_(native|official)-[0-9a-f]{8}$', '', checkpoint.path.stem)


def _shared_config(text: str) -> str:
    """Return a config's text without the assignments of ``_PRIVATE_SETTINGS``; an odd text is left out whole."""
    try:
        statements = ast.parse(text).body
    except (SyntaxError, ValueError):
        return ''
    lines: list[str | None] = list(text.splitlines())
    for statement in statements:
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        if any(isinstance(target, ast.Name) and target.id in _PRIVATE_SETTINGS for target in targets):
            for number in range(statement.lineno - 1, statement.end_lineno or statement.lineno):
                lines[number] = None
    return '\n'.join(line for line in lines if line is not None) + '\n'


def _plain(value: Any) -> Any:
    """Return a value in JSON types: NumPy arrays and numbers, tuples and sets are common in MMEngine's meta."""
    if hasattr(value, 'tolist'):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return str(value)
