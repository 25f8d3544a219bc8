"""A warm-up takes at most a tenth of a training."""

import pytest
from mmengine.optim import LinearLR
from torch import nn
from torch.optim import SGD

from emo_mm.engine.warm_up import fit_warm_up

pytestmark = pytest.mark.toolbox


def recipe() -> list[dict]:
    return [
        dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
        dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=24, T_max=24),
    ]


def rates(scheduler: dict, steps: int) -> list[float]:
    optimizer = SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    settings = {key: value for key, value in scheduler.items() if key != 'type'}
    built, found = LinearLR(optimizer, **settings), []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        built.step()
    return found


def test_a_published_recipe_on_its_own_data_keeps_its_warm_up() -> None:
    schedulers = recipe()
    assert fit_warm_up(schedulers, 5000) == []
    assert schedulers == recipe()


@pytest.mark.parametrize('iterations', [48, 100, 4999])
def test_a_short_training_warms_up_for_a_tenth_of_it(iterations: int) -> None:
    schedulers = recipe()
    (line,) = fit_warm_up(schedulers, iterations)
    assert f'{iterations // 10} iterations instead of 500' in line
    found = rates(schedulers[0], iterations)
    assert found[0] == pytest.approx(0.001)
    assert found[iterations // 10 :] == pytest.approx([1.0] * (iterations - iterations // 10))
    assert schedulers[1] == recipe()[1]


@pytest.mark.parametrize('iterations', [1, 9, 19])
def test_a_training_too_short_for_a_warm_up_has_none(iterations: int) -> None:
    schedulers = recipe()
    (line,) = fit_warm_up(schedulers, iterations)
    assert 'none instead of 500' in line
    assert rates(schedulers[0], iterations) == pytest.approx([1.0] * iterations)
    assert len(schedulers) == 2  # a resumed training finds each scheduler in its place
