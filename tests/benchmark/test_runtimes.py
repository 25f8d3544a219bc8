from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from emo_mm.benchmark.contestant import Contestant
from emo_mm.benchmark.memory import measure_memory
from emo_mm.benchmark.networks import fold
from emo_mm.benchmark.runtimes import RUNTIMES
from emo_mm.benchmark.steps import make_step
from emo_mm.benchmark.subjects import find_subject
from emo_mm.errors import UserError

pytestmark = pytest.mark.toolbox


class Block(nn.Module):
    """A convolution and a BatchNorm, applied in one order or the other."""

    def __init__(self, norm_first: bool) -> None:
        super().__init__()
        self.conv, self.norm, self.norm_first = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), norm_first

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(self.norm(x)) if self.norm_first else self.norm(self.conv(x))


def test_peers_are_folded_only_where_it_changes_no_answer() -> None:
    assert isinstance(fold(Block(norm_first=False), (8, 8)).norm, nn.Identity)
    with pytest.raises(UserError, match='changes what it answers'):
        fold(Block(norm_first=True), (8, 8))


def test_memory_of_a_step_is_what_it_allocates_at_a_time() -> None:
    x = torch.zeros(1000)

    def step() -> torch.Tensor:
        y = x.exp()  # 4000 bytes
        z = y.exp()  # 4000 more
        del y
        return z.exp()  # 4000 more, in place of y's

    assert measure_memory(step, 'cpu', None).peak == 8000


def test_memory_kept_for_backward_leaves_parameters_out_and_counts_storages_once() -> None:
    weight = torch.ones(1000, requires_grad=True)

    def step() -> None:
        y = (weight * 2).exp()  # keeps its result
        (y * y.view(1000)).sum().backward()  # keeps the same storage, twice

    assert measure_memory(step, 'cpu', [weight]).kept_for_backward == 4000


def test_a_training_step_changes_the_weights_and_recomputation_keeps_less() -> None:
    subject = find_subject('emo_1m')
    plain, recomputing = (
        make_step(Contestant(subject, 'eager', mode, 'fp32', 'cpu', (160, 160), 2, 1)) for mode in ('train', 'train-cp')
    )
    assert plain.trained is not None
    before = [parameter.detach().clone() for parameter in plain.trained]
    plain.run()
    assert all(not torch.equal(x, y) for x, y in zip(before, plain.trained, strict=True))
    recomputing.run()
    peaks = [measure_memory(step.run, 'cpu', None).peak for step in (plain, recomputing)]
    assert peaks[1] < peaks[0]


@pytest.mark.parametrize('runtime', ['onnx', 'openvino'])
def test_exported_networks_answer_as_pytorch_does(runtime: str) -> None:
    pytest.importorskip('onnxscript', reason='exporting is tested on the default stack')
    torch.manual_seed(0)
    subject = find_subject('emo_1m')
    images = torch.randn(2, 3, 64, 96)
    contestant = Contestant(subject, runtime, 'forward', 'fp32', 'cpu', (64, 96), 2, 1)
    torch.manual_seed(0)
    with torch.inference_mode():
        expected = subject.build(for_inference=True)(images)
    torch.manual_seed(0)
    (found,) = RUNTIMES[runtime].prepare(contestant, images)(images)
    assert np.abs(found - expected.numpy()).max() < 1e-5
