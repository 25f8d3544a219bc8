"""Times of calls, and their percentiles."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

EVENTS = 10  # calls that a GPU is given at once


def time_calls(call: Callable[[], Any], device: str, seconds: float, least: int = 1, warm_up: int = 0) -> list[float]:
    """Return the milliseconds of each call, as the clock of this process sees it.

    Args:
        call: What is timed.
        device: Where it computes; the end of a call on a GPU is waited for.
        seconds: Least time to go on for.
        least: Least number of timed calls, however long they take.
        warm_up: Calls before them that are not timed.
    """
    wait = _nothing if device == 'cpu' else torch.cuda.synchronize
    for _ in range(warm_up):
        call()
        wait()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < least or time.perf_counter() < end:
        start = time.perf_counter_ns()
        call()
        wait()
        times.append((time.perf_counter_ns() - start) / 1e6)
    return times


def time_calls_by_events(call: Callable[[], Any], seconds: float, least: int) -> list[float]:
    """Return the milliseconds of each call on a GPU by events around it; the GPU waits for nothing but the calls.

    Args:
        call: What is timed.
        seconds: Least time to go on for.
        least: Least number of timed calls, however long they take.
    """
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < least or time.perf_counter() < end:
        events = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(EVENTS)]
        for first, last in events:
            first.record()
            call()
            last.record()
        torch.cuda.synchronize()
        times += [first.elapsed_time(last) for first, last in events]
    return times


def spread(values: Sequence[float] | np.ndarray) -> tuple[float, float, float]:
    """Return the median, the 10th and the 90th percentile."""
    median, p10, p90 = np.percentile(values, (50, 10, 90))
    return float(median), float(p10), float(p90)


def _nothing() -> None:
    return None
