"""What each process of test_sync_bn runs; spawned processes import it by name."""

import os

import torch
import torch.distributed as dist

from emo_mm.engine.cpu.sync_bn import CPUSyncBatchNorm


def data():
    x = torch.randn(6, 4, 5, 5, generator=torch.Generator().manual_seed(0)) * 3 + 1
    return x, [x[:2], x[2:]]  # batches of different sizes


def run(rank, port, folder):
    os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group('gloo', rank=rank, world_size=2)
    norm = CPUSyncBatchNorm(4, momentum=0.3)
    x = data()[1][rank].clone().requires_grad_()
    y = norm(x)
    (y**3).sum().backward()
    torch.save(
        [y.detach(), x.grad, norm.running_mean, norm.running_var, norm.num_batches_tracked], f'{folder}/{rank}.pt'
    )
    dist.destroy_process_group()
