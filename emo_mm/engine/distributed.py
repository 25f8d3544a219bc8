"""The processes of a distributed run: their numbers, how they meet, and whether they begin alike."""

from __future__ import annotations

import ipaddress
import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

from emo_mm.errors import UserError
from emo_mm.weights.cache import sha256_of

if TYPE_CHECKING:
    from mmengine.config import Config

_PORT = '29500'  # PyTorch's own
# what PyTorch and MMEngine read -> where each launcher writes it
_NUMBERS = {
    'pytorch': {'RANK': 'RANK', 'WORLD_SIZE': 'WORLD_SIZE', 'LOCAL_RANK': 'LOCAL_RANK'},
    'slurm': {'RANK': 'SLURM_PROCID', 'WORLD_SIZE': 'SLURM_NTASKS', 'LOCAL_RANK': 'SLURM_LOCALID'},
    'mpi': {
        'RANK': 'OMPI_COMM_WORLD_RANK',
        'WORLD_SIZE': 'OMPI_COMM_WORLD_SIZE',
        'LOCAL_RANK': 'OMPI_COMM_WORLD_LOCAL_RANK',
    },
}
_STARTED_BY = {
    'pytorch': 'torchrun or tools/dist_train.sh starts the processes',
    'slurm': 'srun or tools/slurm_train.sh starts the processes',
    'mpi': 'mpirun starts the processes',
}
_MACHINES = ('GROUP_WORLD_SIZE', 'SLURM_NNODES')  # of torchrun, which may run in a part of Slurm's, and of Slurm


# --- their numbers
def number_process(launcher: str) -> None:
    """Put what a launcher says of this process into the environment under the names that PyTorch reads.

    Args:
        launcher: What started the process; ``none`` where it is alone.

    Raises:
        UserError: If the launcher did not start it.
    """
    if launcher == 'none':
        return
    for name, source in _NUMBERS[launcher].items():
        if source not in os.environ:
            raise UserError(f'--launcher {launcher}: {source} is not set; {_STARTED_BY[launcher]}')
        os.environ[name] = os.environ[source]
    os.environ.setdefault('MASTER_PORT', _PORT)
    if launcher == 'slurm' and 'MASTER_ADDR' not in os.environ:
        os.environ['MASTER_ADDR'] = _first_host(os.environ.get('SLURM_JOB_NODELIST', ''))
    if 'MASTER_ADDR' not in os.environ:
        raise UserError(f'--launcher {launcher}: MASTER_ADDR is not set; give it the address of the first machine')


def is_first() -> bool:
    """Tell whether this process is the one that speaks for all."""
    return int(os.environ.get('RANK', 0)) == 0


def _first_host(hosts: str) -> str:
    """Return the first of the hosts that Slurm lists, as in ``node[3-5,9]``."""
    if '[' not in hosts:
        return hosts.partition(',')[0]
    scontrol = shutil.which('scontrol')
    if scontrol is None:
        raise UserError(f'--launcher slurm: no scontrol here to read {hosts}; set MASTER_ADDR to the first machine')
    command = [scontrol, 'show', 'hostnames', hosts]  # no shell reads it
    listed = subprocess.run(command, capture_output=True, text=True, check=False)  # nosec B603
    if not listed.stdout.split():
        raise UserError(f'--launcher slurm: scontrol cannot read {hosts}; set MASTER_ADDR to the first machine')
    return listed.stdout.split()[0]


# --- how they meet
def check_reachable() -> None:
    """Check that processes of other machines can reach this one over gloo.

    Gloo listens at the address that the machine's own name has. Where that is a loopback address, as on Debian, the
    others wait for it in vain.

    Raises:
        UserError: If they cannot.
    """
    machines = int(next((os.environ[name] for name in _MACHINES if name in os.environ), 1))
    if machines < 2 or os.environ.get('GLOO_SOCKET_IFNAME'):
        return
    host = socket.gethostname()
    try:
        address = socket.gethostbyname(host)
    except OSError:
        address = ''
    if address and not ipaddress.ip_address(address).is_loopback:
        return
    others = [name for _, name in socket.if_nameindex() if name != 'lo']
    leads = f'leads to {address}, which no other machine reaches' if address else 'has no address'
    raise UserError(
        f"{machines} machines: this one's name, {host}, {leads}; set GLOO_SOCKET_IFNAME to its network interface"
        + (f' ({" or ".join(others)})' if others else '')
    )


def meet(cfg: Config) -> None:
    """Make the process group of a distributed run, before MMEngine would: what it builds already communicates.

    Args:
        cfg: The config of the run; on CPUs its processes speak over gloo.

    Raises:
        UserError: If other machines cannot reach this one.
    """
    if cfg.launcher == 'none' or dist.is_initialized():
        return
    if not torch.cuda.is_available():
        check_reachable()
        dist.init_process_group('gloo')
        return
    from mmengine.dist import init_dist

    init_dist(cfg.launcher, **cfg.get('env_cfg', {}).get('dist_cfg', {'backend': 'nccl'}))


# --- whether they begin alike
def check_same_start(cfg: Config) -> None:
    """Check that all processes of a distributed training start from the same checkpoint.

    Where each machine has a work directory of its own, each would continue from what it finds there: the gradients of
    different trainings would be mixed.

    Args:
        cfg: The config of the training; the processes have met, and each of them calls this.

    Raises:
        UserError: If they do not, in all processes.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return  # a process alone need not hash what it loads
    path = cfg.get('load_from')
    if path and Path(path).is_file():
        _check_equal(f'{path} (sha256 {{}})', sha256_of(Path(path)), 'start from the same checkpoint')
    else:
        _check_equal('{}', str(path or 'the beginning'), 'start from the same checkpoint')


def check_same_number(images: int | None) -> None:
    """Check that all processes of a distributed training found as many images.

    Args:
        images: How many this one found; None where it cannot be told.

    Raises:
        UserError: If they did not, in all processes.
    """
    _check_equal('{} images', str(images), 'train on the same images')


def _check_equal(words: str, value: str, aim: str) -> None:
    if not (dist.is_available() and dist.is_initialized()):
        return
    from mmengine.dist import all_gather_object

    every = all_gather_object((value, f'{socket.gethostname()}: {words.format(value)}'))
    told = disagreement(aim, [one for one, _ in every], [text for _, text in every])
    if told is not None:
        raise UserError(told)


def disagreement(aim: str, values: Sequence[str], told: Sequence[str]) -> str | None:
    """Return the words on processes that differ in something; None where they do not.

    Args:
        aim: What they must do, in words.
        values: What each has, by rank.
        told: The same in words, with its machine.
    """
    if len(set(values)) <= 1:
        return None
    lines = [f'rank {rank} on {text}' for rank, text in enumerate(told)]
    first = (
        f'the processes do not {aim}, so nothing was trained; give all machines one --work-dir and one data set on a '
        'disk that they share, or equal copies'
    )
    return '\n  '.join([first, *lines])
