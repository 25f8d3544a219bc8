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

from emo_mm.errors import UserError
from emo_mm.weights.cache import is_web_page

METADATA_KEY = 'emo_mm'  # of the JSON text in a safetensors header
_HEAD_BYTES = 512


def safe_load(path: Path, map_location: Any = 'cpu') -> Any:
    """Return what a ``.pth`` or ``.safetensors`` file holds.

    The kind of the file is told by its content. A safetensors file comes back as a dict of ``state_dict`` and
    ``meta``, the layout of an MMEngine checkpoint.

    Args:
        path: The file.
        map_location: Device for the tensors, or what else ``torch.load`` takes under this name.

    Raises:
        UserError: If the file is missing, empty, damaged, not a checkpoint, or wants to run code.
    """
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
        _check_zip(path)
        return _load_pickle(path, map_location)
    if re.match(rb'\x80[\x02-\x05]', head):  # as torch.save wrote before 1.6: without checksums
        return _load_pickle(path, map_location)
    if _is_safetensors(head, path.stat().st_size):
        # safetensors knows devices but no functions of torch.load
        return _load_safetensors(path, 'cpu' if callable(map_location) else str(map_location))
    raise UserError(f'{path} is neither a PyTorch nor a safetensors file; it starts with {head[:12]!r}')


def _load_pickle(path: Path, map_location: Any) -> Any:
    try:
        with torch.serialization.safe_globals(data_types()):
            return torch.load(path, map_location=map_location, weights_only=True)
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
            f'{path} is damaged or not a checkpoint ({_reason(error)}); copy or download it again'
        ) from None


def _check_zip(path: Path) -> None:
    """Check the checksums of a file that ``torch.save`` wrote, which ``torch.load`` does not.

    Raises:
        UserError: If one does not fit, or an entry is compressed: ``torch.save`` compresses nothing, and a small file
            may unpack to more than there is memory for.
    """
    try:
        with zipfile.ZipFile(path) as file:
            packed = [entry.filename for entry in file.infolist() if entry.compress_type != zipfile.ZIP_STORED]
            broken = None if packed else file.testzip()
    except Exception as error:  # damage shows in many ways: zip, struct, unicode and overflow errors
        raise UserError(f'{path} is damaged ({_reason(error)}); copy or download it again') from None
    if packed:
        raise UserError(f'{path} is no checkpoint as torch.save writes it: {packed[0][:80]!r} in it is compressed')
    if broken is not None:
        raise UserError(
            f'{path} is damaged: {broken[:80]!r} in it does not match its checksum; copy or download it again'
        )


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__


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
        raise UserError(f'{path} is damaged ({_reason(error)}); copy or download it again') from None
    return {'state_dict': state_dict, 'meta': meta if isinstance(meta, dict) else {}}


def data_types() -> list[Any]:
    """Return what MMEngine checkpoints hold beside tensors and plain containers.

    These types and functions build data and do nothing else. MMEngine's own list of this kind admits ``getattr``
    whole, which reaches everything.
    """
    import numpy as np
    from mmengine.logging import HistoryBuffer

    multiarray = (np._core if hasattr(np, '_core') and int(np.__version__.split('.')[0]) >= 2 else np.core).multiarray
    numpy_functions = [
        # NumPy 2 renamed the module: files of either version are read under either.
        (getattr(multiarray, name), f'numpy.{core}.multiarray.{name}')
        for name in ('_reconstruct', 'scalar')
        for core in ('core', '_core')
    ]
    # Each kind of number has its own dtype class; objects are not among them.
    numpy_dtypes = {type(np.dtype(code)) for code in '?bBhHiIlLqQefdgFDSU'}
    return [
        *numpy_functions,
        np.ndarray,
        np.dtype,
        *sorted(numpy_dtypes, key=lambda kind: kind.__name__),
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
