from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from emo_mm.benchmark.ceilings import Ceilings, measure_ceilings
from emo_mm.benchmark.contestant import Contestant
from emo_mm.benchmark.counting import count
from emo_mm.benchmark.stages import Operator, log_operators, stage_costs
from emo_mm.benchmark.subjects import find_subject

pytestmark = pytest.mark.toolbox

# 10 GB/s in the cache, 1 GB/s out of it; 1 G multiply-adds/s.
CEILINGS = Ceilings((2**10, 2**20), (10e9, 1e9), 1e9, 512)


def test_an_operator_is_bound_by_bytes_or_by_multiply_adds() -> None:
    assert Operator('add', 2**20, 0).roofline(CEILINGS) == 2**20 / 1e9
    assert Operator('add', 2**10, 0).roofline(CEILINGS) == 2**10 / 10e9
    assert Operator('add', 2**15, 0).roofline(CEILINGS) == pytest.approx(2**15 / 5.5e9)  # halfway, on a log scale
    assert Operator('mm', 2**10, 10**9).roofline(CEILINGS) == 1


def test_operators_are_listed_with_bytes_and_multiply_adds_and_views_are_not() -> None:
    x, y = torch.zeros(8, 4), torch.zeros(4, 16)
    (operator,) = log_operators(lambda: (x @ y).t().view(16, 8).unsqueeze(0))
    assert operator == Operator('aten.mm', 4 * (32 + 64 + 128), 8 * 4 * 16)


def test_attention_on_the_cpu_counts_both_matrix_products() -> None:
    q, k, v = torch.zeros(2, 4, 9, 8), torch.zeros(2, 4, 9, 8), torch.zeros(2, 4, 9, 8)
    operators = log_operators(lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v))
    assert sum(operator.macs for operator in operators) == 2 * 4 * 2 * 9 * 9 * 8


def test_stages_add_up_to_the_network() -> None:
    contestant = Contestant(find_subject('emo_1m'), 'eager', 'forward', 'fp32', 'cpu', (64, 64), 1, 1)
    costs = stage_costs(contestant, CEILINGS, rounds=1, turn_seconds=0.0)
    assert [cost.stage for cost in costs] == ['stem', 'stage 1', 'stage 2', 'stage 3', 'stage 4', 'head', 'whole']
    *stages, whole = costs
    assert sum(cost.macs for cost in stages) == whole.macs
    counted = count(contestant.subject.build(for_inference=True), torch.empty(1, 3, 64, 64, device='meta'))
    assert whole.macs == counted.product_macs
    for cost in costs:
        assert max(cost.arithmetic_ms, cost.memory_ms) <= cost.roofline_ms <= cost.arithmetic_ms + cost.memory_ms
        assert cost.measured_ms > 0


def test_ceilings_are_measured() -> None:
    ceilings = measure_ceilings(seconds=0.001, copy_bytes=(2**16, 2**20), matrix_sides=(64, 128))
    assert ceilings.macs_per_s > 1e8
    assert len(ceilings.bandwidth) == 2
    assert min(ceilings.bandwidth) > 1e6


def test_other_models_have_no_stages(run_cli: Callable, tmp_path: Path) -> None:
    result = run_cli('benchmark', 'emo_1m', '--stages', '--runtime', 'compiled', '--out', tmp_path)
    assert result.code == 1
    assert result.err.startswith('error: --stages ')
    assert result.err.endswith('not compiled\n')
