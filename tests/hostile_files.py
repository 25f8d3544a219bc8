"""Files as an attacker would write them. Each wants to make a file, the marker, and so tells whether it was run."""

from __future__ import annotations

import importlib
import io
import os
import pickle
import subprocess
import tarfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

TENSORS = {'backbone.stem.conv.weight': torch.arange(6.0).reshape(2, 3)}


class Calls:
    """Pickles as a call of any function."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


# Ways to make the marker while a pickle is read.
GADGETS: dict[str, Callable[[Path], Any]] = {
    'os.system': lambda marker: Calls(os.system, f'touch {marker}'),
    'subprocess.Popen': lambda marker: Calls(subprocess.Popen, ['touch', str(marker)]),
    'eval': lambda marker: Calls(eval, f'open({str(marker)!r}, "w")'),
    'exec': lambda marker: Calls(exec, f'open({str(marker)!r}, "w")'),
    'open': lambda marker: Calls(open, str(marker), 'w'),
    'Path.touch': lambda marker: Calls(Path.touch, marker),
    'import': lambda marker: Calls(importlib.import_module, marker.stem),
    'getattr': lambda marker: Calls(getattr, Calls(importlib.import_module, 'os'), 'system'),
    'pickle.loads': lambda marker: Calls(pickle.loads, pickle.dumps(Calls(os.system, f'touch {marker}'))),
    'numpy.load': lambda marker: Calls(np.load, str(_array(marker.with_suffix('.npy'), marker)), None, True),
}

# Where in a checkpoint they lie.
PLACES: dict[str, Callable[[Any], Any]] = {
    'whole file': lambda evil: evil,
    'state dict': lambda evil: {'state_dict': {**TENSORS, 'x': evil}},
    'ordered dict': lambda evil: {'state_dict': OrderedDict(TENSORS, x=evil)},
    'meta': lambda evil: {'state_dict': TENSORS, 'meta': {'dataset_meta': {'classes': [evil]}}},
    'message hub': lambda evil: {'state_dict': TENSORS, 'message_hub': {'runtime_info': OrderedDict(x=evil)}},
    'history': lambda evil: {'state_dict': TENSORS, 'message_hub': {'log_scalars': {'loss': history(evil)}}},
    'optimizer': lambda evil: {'state_dict': TENSORS, 'optimizer': {'state': {0: evil}}},
    'key': lambda evil: {'state_dict': TENSORS, 'meta': {(1, evil): 1}},
}


def history(evil: Any) -> HistoryBuffer:
    """MMEngine's record of a scalar, with something else in the place of its numbers and of its methods."""
    buffer = HistoryBuffer([1.0], [1])
    buffer._log_history = evil
    buffer._statistics_methods = {'mean': evil}
    return buffer


def zipped(content: Any, path: Path) -> None:
    torch.save(content, path)


def legacy(content: Any, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def plain(content: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(content, protocol=4))


def tar(content: Any, path: Path) -> None:
    """The format of PyTorch before 0.1.10."""
    with tarfile.open(path, 'w') as archive:
        for name in ('sys_info', 'pickle', 'storages', 'tensors'):
            data = pickle.dumps(content)
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def _array(path: Path, marker: Path) -> Path:
    np.save(path, np.array([Calls(os.system, f'touch {marker}')], object), allow_pickle=True)
    return path
