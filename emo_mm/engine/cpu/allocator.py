"""The C allocator, as CPU training wants it."""

from __future__ import annotations

import ctypes
import os
import platform

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_KEEP = 1 << 30  # bytes


def keep_freed_memory() -> bool:
    """Let glibc keep the activations that a training step frees, for the next step to reuse.

    By default glibc maps and unmaps every large block, and a training step on the CPU spends over a third of its time
    faulting their pages in. Does nothing elsewhere than on Linux with glibc, or where ``EMO_MM_MALLOC=default`` is set.

    Returns:
        Whether the setting took effect.
    """
    if os.environ.get('EMO_MM_MALLOC') == 'default' or platform.libc_ver()[0] != 'glibc':
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_M_MMAP_THRESHOLD, _KEEP) and mallopt(_M_TRIM_THRESHOLD, _KEEP))


def give_back_freed_memory() -> bool:
    """Let glibc return to the system what it keeps of freed memory.

    Returns:
        Whether anything was returned; never elsewhere than on Linux with glibc.
    """
    return platform.libc_ver()[0] == 'glibc' and bool(ctypes.CDLL(None).malloc_trim(0))
