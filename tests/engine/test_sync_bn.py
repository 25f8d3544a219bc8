"""BatchNorm over two CPU processes answers what BatchNorm over their joint batch answers."""

import os

import pytest
import torch
import torch.multiprocessing as mp
from sync_bn_worker import data, run
from torch import nn

from emo_mm.engine.cpu.sync_bn import CPUSyncBatchNorm, synchronise_batchnorm

pytestmark = pytest.mark.toolbox


def test_two_processes_equal_one_on_the_joint_batch(tmp_path):
    port = 20000 + os.getpid() % 20000
    mp.spawn(run, args=(port, str(tmp_path)), nprocs=2)
    parts = [torch.load(tmp_path / f'{rank}.pt') for rank in range(2)]
    norm = nn.BatchNorm2d(4, momentum=0.3)
    x = data()[0].requires_grad_()
    y = norm(x)
    (y**3).sum().backward()
    torch.testing.assert_close(torch.cat([part[0] for part in parts]), y.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.cat([part[1] for part in parts]), x.grad, rtol=1e-4, atol=1e-4)
    for part in parts:
        torch.testing.assert_close(part[2], norm.running_mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(part[3], norm.running_var, rtol=1e-4, atol=1e-5)
        assert part[4] == 1


def test_replacement_keeps_parameters_statistics_and_mode():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, eps=1e-3, momentum=0.03)).eval()
    weight, mean = model[1].weight, model[1].running_mean
    assert synchronise_batchnorm(model) == 1
    assert isinstance(model[1], CPUSyncBatchNorm)
    assert model[1].weight is weight
    assert model[1].running_mean is mean
    assert (model[1].eps, model[1].momentum, model[1].training) == (1e-3, 0.03, False)
    x = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(
        model(x), nn.functional.batch_norm(model[0](x), mean, model[1].running_var, weight, eps=1e-3)
    )


def test_outside_of_a_process_group_it_is_plain_batchnorm():
    ours, theirs = CPUSyncBatchNorm(3), nn.BatchNorm2d(3)
    x = torch.randn(4, 3, 2, 2)
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.running_var, theirs.running_var)
