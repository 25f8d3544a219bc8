"""Memory that a step takes."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile


@dataclass(frozen=True)
class Memory:
    """Memory of one step, in bytes.

    Attributes:
        peak: The most that is allocated at a time during the step, on top of what was there before it (parameters,
            optimizer states, the input): activations, gradients and temporaries. On a CPU from the allocations and
            releases that torch's profiler records, which leaves out scratch memory that oneDNN takes for itself; on a
            GPU from torch's allocator (``max_memory_allocated``); None where another runtime than torch allocates.
        kept_for_backward: What autograd keeps between the forward and the backward pass, each storage once,
            parameters left out; None outside of training and where the network is compiled.
        peak_rss: The largest resident set of the process so far, libraries included; None on a GPU.
    """

    peak: int | None
    kept_for_backward: int | None
    peak_rss: int | None


def measure_memory(
    step: Callable[[], Any], device: str, parameters: Iterable[Tensor] | None, in_torch: bool = True
) -> Memory:
    """Measure the memory of a step that has run before.

    Args:
        step: The step.
        device: Where it runs.
        parameters: Parameters of the network that it trains; None where nothing is kept for a backward pass, or
            where that cannot be seen.
        in_torch: Whether torch allocates what the step needs.
    """
    peak = None
    if in_torch:
        peak = _peak_on_cpu(step) if device == 'cpu' else _peak_on_gpu(step, device)
    kept = None if parameters is None else _kept_for_backward(step, parameters)
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 if device == 'cpu' else None  # Linux: KiB
    return Memory(peak, kept, rss)


def _peak_on_cpu(step: Callable[[], Any]) -> int:
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        outputs = step()
    del outputs
    assert profiler.profiler is not None
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == '[memory]']
    changes = [e.nbytes() for e in sorted(events, key=lambda e: e.start_ns()) if e.device_index() < 0]
    return peak_of_changes(changes)


def peak_of_changes(changes: Iterable[int]) -> int:
    """Return the highest running sum of allocations (positive) and releases (negative), in order."""
    peak = total = 0
    for change in changes:
        total += change
        peak = max(peak, total)
    return peak


def _peak_on_gpu(step: Callable[[], Any], device: str) -> int:
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    step()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def _kept_for_backward(step: Callable[[], Any], parameters: Iterable[Tensor]) -> int:
    known = {parameter.untyped_storage().data_ptr() for parameter in parameters}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            # Of two storages at one address one has been released: both were kept.
            kept[storage.data_ptr()] = max(storage.nbytes(), kept.get(storage.data_ptr(), 0))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        step()
    return sum(kept.values())
