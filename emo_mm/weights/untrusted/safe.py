"""Reading checkpoint files without running anything in them.

PyTorch checkpoints are pickles, which may call any function while they are read. Here only tensors, plain containers
and a fixed list of further data types are built; a file that asks for anything else is refused before it is called.
"""

from __future__ import annotations

import argparse
import json
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch

from emo_mm.errors import UserError, first_line
from emo_mm.weights.cache import is_web_page
from emo_mm.weights.untrusted.claims import check_claims
from emo_mm.weights.untrusted.plain_numpy import stand_ins

METADATA_KEY = 'emo_mm'  # of the JSON text in a safetensors header
_HEAD_BYTES = 512


def safe_load(path: Path, map_location: Any = 'cpu', mmap: bool = False) -> Any:
    """Return what a ``.pth`` or ``.safetensors`` file holds.

    The kind of the file is known by its content. A safetensors file comes back as a dict of ``state_dict`` and
    ``meta``, the layout of an MMEngine checkpoint.

    Args:
        path: The file.
        map_location: Device for the tensors, or what else ``torch.load`` takes under this name.
        mmap: Whether to read the tensors of a ``.pth`` file only once they are looked at.

    Raises:
        UserError: If the file is missing, empty, damaged, not a checkpoint, wants to run code, or claims to hold more
            than it can.
    """
    content = _load(path, map_location, mmap)
    check_claims(content, path)
    return content


def _load(path: Path, map_location: Any, mmap: bool) -> Any:
    if not path.is_file():
        raise UserError(f'{path} is {"a folder" if path.is_dir() else "not there"}; give a checkpoint file')
    try:
        with path.open('rb') as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise UserError(f'{path} cannot be read: {error.strerror}') from None
    if not head:
        raise UserError(f'{path} is empty; copy or download it again')
    if is_web_page(head):
        raise UserError(f'{path} is a web page, not a checkpoint; download the raw file')
    if head.startswith(b'version https://git-lfs'):
        raise UserError(f'{path} is a Git LFS pointer, not the checkpoint itself; run git lfs pull')
    if head.startswith(b'PK'):
        _check_archive(path)
        return _load_pickle(path, map_location, mmap)
    if re.match(rb'\x80[\x02-\x05]', head):  # as torch.save wrote before 1.6: without checksums
        return _load_pickle(path, map_location, mmap)
    if _is_safetensors(head, path.stat().st_size):
        # safetensors knows devices but no functions of torch.load
        return _load_safetensors(path, 'cpu' if callable(map_location) else str(map_location))
    raise UserError(f'{path} is neither a PyTorch nor a safetensors file; it starts with {head[:12]!r}')


def _load_pickle(path: Path, map_location: Any, mmap: bool) -> Any:
    try:
        with torch.serialization.safe_globals(data_types()):
            return torch.load(path, map_location=map_location, weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        asked = re.search(r'GLOBAL (\S+)', str(error))
        if asked:
            raise UserError(
                f'{path} asks to call {asked[1]} while it is read, which weights do not need; it was refused and '
                'nothing in it was run; get the weights from a source you trust, as safetensors or a plain state dict'
            ) from None
        raise UserError(f'{path} is refused: its pickle holds more than data; nothing in it was run') from None
    # A damaged file fails in as many ways as there are bytes: zip, pickle and storage errors of several types.
    except Exception as error:
        raise UserError(
            f'{path} is damaged or not a checkpoint ({first_line(error)}); copy or download it again'
        ) from None


def _check_archive(path: Path) -> None:
    """Check that a zip archive holds weights, no more than its own size, and fits its checksums.

    PyTorch compresses nothing, so nothing has to unpack to more than there is memory for. It does not look at the
    checksums when it reads.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            size, unpacked = path.stat().st_size, sum(entry.file_size for entry in entries)
            packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries) or unpacked > size
            broken = None if packed else archive.testzip()
    except Exception as error:  # damage shows in many ways: zip, struct, unicode and overflow errors
        raise UserError(
            f'{path} is damaged or not a checkpoint ({first_line(error)}); copy or download it again'
        ) from None
    for name, kind in (('constants.pkl', 'TorchScript archive'), ('archive_format', 'program of torch.export')):
        if any(entry.filename.rpartition('/')[2] == name for entry in entries):
            raise UserError(f'{path} is a {kind}, which may run code, and no checkpoint')
    if packed:
        raise UserError(
            f'{path} is refused: its {size} bytes unpack to {unpacked}, and PyTorch compresses no checkpoint; '
            'get the file as it was saved'
        )
    if broken is not None:
        raise UserError(
            f'{path} is damaged: {broken[:80]!r} in it does not match its checksum; copy or download it again'
        )


def _is_safetensors(head: bytes, size: int) -> bool:
    # Eight bytes hold the length of the JSON header that follows.
    return len(head) > 8 and head[8:9] == b'{' and int.from_bytes(head[:8], 'little') <= size - 8


def _load_safetensors(path: Path, device: str) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework='pt', device=device) as file:
            metadata = file.metadata() or {}
            names = file.keys()
            state_dict = {name: file.get_tensor(name) for name in names}
        meta = json.loads(metadata.get(METADATA_KEY, '{}'))
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise UserError(f'{path} is damaged ({first_line(error)}); copy or download it again') from None
    return {'state_dict': state_dict, 'meta': meta if isinstance(meta, dict) else {}}


def data_types() -> list[Any]:
    """Return what MMEngine checkpoints hold beside tensors and plain containers.

    These types and functions build data and do nothing else. MMEngine's own list of this kind admits ``getattr``
    whole, which reaches everything.
    """
    from mmengine.logging import HistoryBuffer

    return [
        *stand_ins(),
        HistoryBuffer,
        (_statistics_method, 'builtins.getattr'),
        argparse.Namespace,
        (PlainConfig, 'mmengine.config.config.ConfigDict'),
    ]


def _statistics_method(owner: Any, name: Any) -> Any:
    """Stands for ``getattr``, which MMEngine's history of a scalar needs for its own methods and for nothing else."""
    from mmengine.logging import HistoryBuffer

    if owner is HistoryBuffer and name in ('min', 'max', 'mean', 'current'):
        return getattr(HistoryBuffer, name)
    raise pickle.UnpicklingError(f'GLOBAL builtins.getattr of {name}')


class PlainConfig(dict):
    """Stands for MMEngine's ``ConfigDict``, whose own class imports and builds objects lazily."""
