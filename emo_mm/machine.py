"""What the machine offers to this process."""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path

# Linux's limit of a container or a service, as "microseconds period", or "max period" without one (cgroup v2).
CPU_LIMIT = Path('/sys/fs/cgroup/cpu.max')


def available_cores() -> int:
    """Return the number of cores that this process may use: by its affinity, and by the limit of its container."""
    if hasattr(os, 'process_cpu_count'):  # from Python 3.13 on
        cores = os.process_cpu_count() or 1
    elif hasattr(os, 'sched_getaffinity'):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):  # no such file, or no limit
        quota, period = map(int, CPU_LIMIT.read_text().split())
        cores = min(cores, max(1, math.ceil(quota / period)))
    return cores
