"""What the machine can do at most, measured: bytes moved per second and multiply-adds per second."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from emo_mm.benchmark.networks import DTYPE_OF
from emo_mm.benchmark.timing import time_calls

# Bytes read and written by the copies: from what fits into the smallest cache to what fits into none.
COPY_BYTES = tuple(2**power for power in range(17, 29))
MATRIX_SIDES = (512, 1024, 2048)


@dataclass(frozen=True)
class Ceilings:
    """Measured limits of a machine.

    Attributes:
        copy_bytes: Bytes that a copy touches, ascending.
        bandwidth: Bytes per second of a copy of each of these sizes, reads and writes counted, the best of many.
        macs_per_s: Multiply-adds per second of the fastest of several square matrix products.
        matrix_side: Side of its matrices.
    """

    copy_bytes: tuple[int, ...]
    bandwidth: tuple[float, ...]
    macs_per_s: float
    matrix_side: int

    def bandwidth_at(self, touched: float) -> float:
        """Return the bytes per second of a copy that touches this many bytes, interpolated from the measured curve."""
        return float(np.interp(np.log2(max(touched, 1)), np.log2(self.copy_bytes), self.bandwidth))

    @property
    def memory_bandwidth(self) -> float:
        """Bytes per second of the largest copy, which no cache holds."""
        return self.bandwidth[-1]


def measure_ceilings(
    device: str = 'cpu',
    dtype: str = 'fp32',
    seconds: float = 0.2,
    copy_bytes: Sequence[int] | None = None,
    matrix_sides: Sequence[int] | None = None,
) -> Ceilings:
    """Measure the limits with the threads that torch uses now.

    Args:
        device: Device.
        dtype: Name of the precision of the matrix product.
        seconds: Length of each of the measurements.
        copy_bytes: Bytes that the copies touch, ascending; None for those that suit the device.
        matrix_sides: Sides of the square matrices; None for those that suit the device.
    """
    scale = 1 if device == 'cpu' else 8  # a GPU has larger caches and needs larger products to be busy
    sizes = tuple(copy_bytes or (scale * size for size in COPY_BYTES))
    bandwidth = [size / _best_seconds(_copy(size, device), device, seconds) for size in sizes]
    sides = tuple(matrix_sides or (scale * side for side in MATRIX_SIDES))
    products = {side: side**3 / _best_seconds(_product(side, device, dtype), device, seconds) for side in sides}
    best = max(products, key=lambda side: products[side])
    return Ceilings(sizes, tuple(bandwidth), products[best], best)


def _copy(size: int, device: str) -> Callable[[], object]:
    source = torch.ones(size // 8, device=device)  # half of the bytes are read, half written; four per number
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


def _product(side: int, device: str, dtype: str) -> Callable[[], object]:
    left, right = torch.rand(2, side, side, device=device, dtype=DTYPE_OF[dtype])
    out = torch.empty_like(left)
    return lambda: torch.mm(left, right, out=out)


def _best_seconds(call: Callable[[], object], device: str, seconds: float) -> float:
    """Return the shortest time of a call: a ceiling is what the machine can do when nothing disturbs it."""
    return min(time_calls(call, device, seconds, warm_up=1)) / 1000
