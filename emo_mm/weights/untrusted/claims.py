"""What the content of a checkpoint claims to be, held against the file that it came from.

A few bytes can describe a tensor of terabytes (one number, repeated by a stride of 0) or a list of lists that has no
end. Nothing of that is in memory yet, but whoever copies, hashes or prints it would fill the memory or never finish.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import HistoryBuffer

from emo_mm.errors import UserError

MAX_DEPTH = 64  # of containers in containers
MAX_VALUES = 20_000_000  # counted as often as they would be printed
SHARED = 4  # how often the bytes of a file may be used: weights may be shared by layers


def check_claims(content: Any, path: Path) -> None:
    """Check that the content of a file is no larger than the file makes plausible, and its tensors plain ones.

    Args:
        content: What was read: containers, tensors, texts and numbers.
        path: The file.

    Raises:
        UserError: If not.
    """
    values, tensor_bytes = _measured(content, {}, 0, path)
    limit = SHARED * path.stat().st_size
    if values > MAX_VALUES or tensor_bytes > limit:
        what = f'{tensor_bytes} bytes of tensors' if tensor_bytes > limit else f'{values} values'
        raise UserError(f'{path} is refused: its {path.stat().st_size} bytes claim to be {what}')


def _measured(value: Any, known: dict[int, tuple[int, int]], depth: int, path: Path) -> tuple[int, int]:
    """Return the number of values and the bytes of tensors in a value, each counted wherever it is referred to."""
    if isinstance(value, torch.Tensor):
        if type(value) not in (torch.Tensor, torch.nn.Parameter) or value.layout != torch.strided or value.is_quantized:
            raise UserError(
                f'{path} is refused: it holds a {type(value).__name__} of {value.layout}, not plain weights'
            )
        return 1, value.numel() * value.element_size()
    inner = _inner(value)
    if inner is None:
        return 1, 0
    if depth > MAX_DEPTH:
        raise UserError(f'{path} is refused: it holds containers in containers, more than {MAX_DEPTH} deep')
    if id(value) not in known:
        values, tensor_bytes = 1, 0
        for item in inner:
            more_values, more_bytes = _measured(item, known, depth + 1, path)
            values, tensor_bytes = values + more_values, tensor_bytes + more_bytes
        known[id(value)] = values, tensor_bytes
    return known[id(value)]


def _inner(value: Any) -> Iterable[Any] | None:
    """Return what a container holds; None for anything else."""
    if isinstance(value, Mapping):
        return [*value.keys(), *value.values()]
    if isinstance(value, (list, tuple, set, frozenset)):
        return value
    if isinstance(value, (argparse.Namespace, HistoryBuffer)):
        return list(vars(value).values())
    return None
