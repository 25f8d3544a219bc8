"""The cores that this process may use."""

import os

import pytest

from emo_mm import machine


@pytest.fixture
def four_cores(monkeypatch, tmp_path):
    """Let the process have four cores; return the file that holds the limit of its container, not yet there."""
    monkeypatch.setattr(os, 'process_cpu_count', lambda: 4, raising=False)
    monkeypatch.setattr(machine, 'CPU_LIMIT', tmp_path / 'cpu.max')
    return tmp_path / 'cpu.max'


@pytest.mark.parametrize(
    ('limit', 'cores'),
    [
        (None, 4),
        ('max 100000\n', 4),
        ('200000 100000\n', 2),
        ('150000 100000\n', 2),
        ('10000 100000\n', 1),
        ('800000 100000\n', 4),
        ('', 4),
    ],
)
def test_the_limit_of_a_container_counts_where_it_is_lower(limit, cores, four_cores):
    if limit is not None:
        four_cores.write_text(limit)
    assert machine.available_cores() == cores


@pytest.mark.skipif(not hasattr(os, 'sched_setaffinity'), reason='needs Linux')
def test_the_affinity_of_the_process_counts(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, 'CPU_LIMIT', tmp_path / 'none')
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert machine.available_cores() == 1
    finally:
        os.sched_setaffinity(0, before)
