"""Contests in processes, from the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from emo_mm.benchmark.results import read_csv, read_json

pytestmark = pytest.mark.toolbox


def test_two_runtimes_are_measured_in_processes_of_their_own(run_cli: Callable, tmp_path: Path) -> None:
    result = run_cli(
        *('benchmark', 'emo_1m', '--runtime', 'reference', 'fused', '--mode', 'forward', '--size', '64'),
        *('--threads', '1', '--quick', '--out', tmp_path),
    )
    assert result.code == 0, result.err
    found = read_json(tmp_path / 'emo_1m_cpu_1threads_fp32.json')
    reference, fused = found.rows
    assert (reference.runtime, fused.runtime) == ('reference', 'fused')
    assert reference.allocator == 'process default'
    assert reference.speedup == 1
    assert fused.baseline == 'emo_1m reference'
    assert fused.steps >= 3 * 3
    assert 0 < fused.p10_ms <= fused.median_ms <= fused.p90_ms
    # The largest map is 32×32 with 24 channels; several of its size live at a time, and not ten.
    assert 4 * 24 * 32 * 32 < fused.peak_mb * 1e6 < 10 * 4 * 64 * 32 * 32
    assert all(len(medians) == 3 for medians in found.rounds)
    assert found.machine['cores'] >= 1
    assert len(read_csv(tmp_path / 'emo_1m_cpu_1threads_fp32.csv')) == 2
    assert '[1/1] forward, batch 1, 64×64: 2 contestants' in result.out
    assert '| emo_1m | fused | fp32 | 64×64 | 1 |' in result.out

    shown = run_cli('benchmark', '--show', tmp_path / 'emo_1m_cpu_1threads_fp32.json', '--out', tmp_path / 'again')
    assert shown.code == 0, shown.err
    assert read_json(tmp_path / 'again' / 'emo_1m_cpu_1threads_fp32.json') == found


def test_an_input_that_is_too_small_is_refused_before_anything_is_measured(run_cli: Callable, tmp_path: Path) -> None:
    result = run_cli('benchmark', 'emo_1m', 'tinyvit_5m', '--size', '64', '--quick', '--out', tmp_path / 'out')
    assert result.code == 1
    assert result.err.startswith('error: tinyvit_5m cannot take a batch of 1 at 64×64: ')
    assert not (tmp_path / 'out').exists()
