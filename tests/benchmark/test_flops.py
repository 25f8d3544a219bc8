from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from emo_mm.benchmark.counting import count
from emo_mm.benchmark.flops import ModuleCost, module_costs
from emo_mm.benchmark.subjects import find_subject

pytestmark = pytest.mark.toolbox


def children(costs: list[ModuleCost], name: str) -> list[ModuleCost]:
    prefix = f'{name}.' if name else ''
    return [c for c in costs if c.name and c.name.startswith(prefix) and '.' not in c.name[len(prefix) :]]


def test_the_parts_of_every_module_add_up_to_it() -> None:
    network = find_subject('ssdlite_emo_1m_coco').build(for_inference=True)
    counted = count(network, torch.empty(1, 3, 320, 320, device='meta'))
    costs = module_costs(network, counted, depth=5)
    assert (costs[0].params, costs[0].macs) == (counted.params, counted.macs)
    split = [cost for cost in costs if children(costs, cost.name) and not cost.name.endswith(')')]
    assert len(split) > 10
    for cost in split:
        parts = children(costs, cost.name)
        assert sum(part.macs for part in parts) == cost.macs, cost.name
        assert sum(part.params for part in parts) == cost.params, cost.name


def test_what_a_module_does_itself_is_listed() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.matrix = nn.Linear(4, 4), nn.Parameter(torch.ones(4, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(x) @ self.matrix

    model = Scaled()
    own = module_costs(model, count(model, torch.zeros(1, 4)), depth=1)[-1]
    assert own == ModuleCost('(own)', '', 16, 16)


def test_the_table_is_printed(run_cli: Callable) -> None:
    result = run_cli('flops', 'ssdlite_emo_1m_coco', '--depth', '1', '--shape', '300')
    assert result.code == 0, result.err
    assert [line.split()[0] for line in result.out.splitlines()[1:5]] == ['total', 'backbone', 'neck', 'bbox_head']
    assert 'One image of 300×300' in result.out


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('emo_9m',), "no model 'emo_9m'"),
        (('emo_1m', '--shape', '1', '2', '3'), '--shape 1 2 3: it must be one side, or height and width'),
        (('tinyvit_5m', '--shape', '64'), 'tinyvit_5m cannot take an image of 64×64'),
    ],
)
def test_faults_are_named(run_cli: Callable, arguments: tuple, message: str) -> None:
    result = run_cli('flops', *arguments)
    assert (result.code, result.err.startswith(f'error: {message}')) == (1, True)
