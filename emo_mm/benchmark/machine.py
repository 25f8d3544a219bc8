"""The machine that a benchmark ran on."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

import torch

from emo_mm.benchmark.options import usable_cores
from emo_mm.stack import DISTRIBUTIONS, installed
from emo_mm.version import __version__


@dataclass(frozen=True)
class Machine:
    """Conditions of a benchmark.

    Attributes:
        cpu: Model of the processor.
        cores: Cores that this process may use.
        capability: Instruction set that torch uses.
        memory_gb: Memory of the machine.
        gpu: Name of the GPU; empty where none was used.
        system: Operating system.
        python: Version.
        torch: Version.
        stack: Versions of the toolboxes.
        emo_mm: Version and, in a clone, commit; ``+changes`` where files differ from it.
        load: Processes that were running or waiting at the start, the mean of a minute: other work on the machine.
        date: Start, UTC.
    """

    cpu: str
    cores: int
    capability: str
    memory_gb: float
    gpu: str
    system: str
    python: str
    torch: str
    stack: str
    emo_mm: str
    load: float
    date: str

    def lines(self) -> list[str]:
        """Return the conditions as lines of text."""
        return [f'{name}: {value}' for name, value in asdict(self).items() if value != '']


def describe_machine(device: str = 'cpu') -> Machine:
    """Look at the machine.

    Args:
        device: Device that is measured.
    """
    return Machine(
        cpu=_cpu_model(),
        cores=usable_cores(),
        capability=torch.backends.cpu.get_cpu_capability(),
        memory_gb=round(os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 1e9, 1),
        gpu='' if device == 'cpu' else torch.cuda.get_device_name(device),
        system=platform.platform(),
        python=platform.python_version(),
        torch=torch.__version__,
        stack=', '.join(_toolbox_versions()),
        emo_mm=_own_version(),
        load=round(os.getloadavg()[0], 2),
        date=datetime.now(timezone.utc).isoformat(timespec='seconds'),
    )


def _cpu_model() -> str:
    path = Path('/proc/cpuinfo')
    found = re.search(r'^model name\s*:\s*(.+)$', path.read_text(), re.MULTILINE) if path.is_file() else None
    return found[1] if found else platform.processor()


def _toolbox_versions() -> list[str]:
    names = [name for names in DISTRIBUTIONS.values() for name in names.values() if installed(name)]
    return [f'{name} {metadata.version(name)}' for name in names]


def _own_version() -> str:
    root = Path(__file__).resolve().parents[2]
    if not (root / '.git').exists():
        return __version__

    def git(*args: str) -> str:
        # arguments of our own, no shell; which git is the user's choice
        command = ['git', '-C', str(root), *args]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # nosec B603
        return done.stdout.strip()

    commit = git('rev-parse', '--short', 'HEAD')
    changes = '+changes' if git('status', '--porcelain', '--untracked-files=no') else ''
    return f'{__version__} {commit}{changes}'.strip()
