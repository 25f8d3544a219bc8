"""The processes of a distributed run: their numbers, how they meet, and whether they begin alike."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from emo_mm.data.shapes.generate import generate
from emo_mm.engine import distributed
from emo_mm.engine.distributed import check_reachable, disagreement, is_first, number_process
from emo_mm.errors import UserError

NAMES = ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT', 'GLOO_SOCKET_IFNAME', 'GROUP_WORLD_SIZE')
SLURM = {
    'SLURM_PROCID': '1',
    'SLURM_NTASKS': '4',
    'SLURM_LOCALID': '0',
    'SLURM_NNODES': '2',
    'SLURM_JOB_NODELIST': 'node[3-4]',
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*NAMES, *SLURM):
        monkeypatch.setenv(name, '')  # so that what a test leaves is taken back
        monkeypatch.delenv(name)


def test_slurm_numbers_the_processes_and_names_the_first_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    scontrol = tmp_path / 'scontrol'
    scontrol.write_text('#!/bin/sh\necho node3\necho node4\n')
    scontrol.chmod(scontrol.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv('PATH', str(tmp_path), prepend=os.pathsep)
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    number_process('slurm')
    found = {name: os.environ[name] for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT')}
    assert found == {
        'RANK': '1', 'WORLD_SIZE': '4', 'LOCAL_RANK': '0', 'MASTER_ADDR': 'node3', 'MASTER_PORT': '29500',
    }  # fmt: skip
    assert not is_first()  # who prints for all


def test_one_host_of_slurm_needs_no_scontrol(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**SLURM, 'SLURM_JOB_NODELIST': 'login,node7'}.items():
        monkeypatch.setenv(name, value)
    number_process('slurm')
    assert os.environ['MASTER_ADDR'] == 'login'


def test_without_scontrol_the_address_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed.shutil, 'which', lambda name: None)
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match='set MASTER_ADDR to the first machine'):
        number_process('slurm')


@pytest.mark.parametrize(('launcher', 'words'), [('pytorch', 'torchrun'), ('slurm', 'srun'), ('mpi', 'mpirun')])
def test_a_process_that_its_launcher_did_not_start_is_refused(launcher: str, words: str) -> None:
    with pytest.raises(UserError, match=rf'--launcher {launcher}: \w+ is not set; {words}'):
        number_process(launcher)


def test_a_process_alone_is_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    number_process('none')
    assert 'RANK' not in os.environ
    assert is_first()


@pytest.mark.parametrize('address', ['127.0.1.1', None])
def test_a_machine_that_others_cannot_reach_is_told_the_setting(
    address: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lookup(host: str) -> str:
        if address is None:
            raise OSError('unknown')
        return address

    monkeypatch.setattr(distributed.socket, 'gethostbyname', lookup)
    monkeypatch.setattr(distributed.socket, 'if_nameindex', lambda: [(1, 'lo'), (2, 'eth7')])
    check_reachable()  # one machine needs no other
    monkeypatch.setenv('GROUP_WORLD_SIZE', '2')
    with pytest.raises(UserError, match=r'set GLOO_SOCKET_IFNAME to its network interface \(eth7\)'):
        check_reachable()
    monkeypatch.setenv('GLOO_SOCKET_IFNAME', 'eth7')
    check_reachable()


def test_a_machine_with_an_address_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('SLURM_NNODES', '2')
    monkeypatch.setattr(distributed.socket, 'gethostbyname', lambda host: '10.0.0.3')
    check_reachable()


def test_processes_that_have_the_same_agree_whatever_they_call_it() -> None:
    assert disagreement('x', ['f00d', 'f00d'], ['a: /x/epoch_3.pth', 'b: /y/epoch_3.pth']) is None


def test_processes_that_differ_are_all_named_with_their_machines() -> None:
    told = disagreement('train on the same images', ['9', '10'], ['a: 9 images', 'b: 10 images'])
    assert told is not None
    first, *lines = told.split('\n  ')
    assert 'do not train on the same images, so nothing was trained; give all machines one --work-dir' in first
    assert lines == ['rank 0 on a: 9 images', 'rank 1 on b: 10 images']


@pytest.mark.slow
@pytest.mark.toolbox
def test_a_resumed_training_whose_processes_find_other_checkpoints_stops_in_all_of_them(tmp_path: Path) -> None:
    data = generate(tmp_path / 'shapes', num_train=8, num_val=2).root
    small = ['emo_1m_demo', '--data-root', str(data), '--batch-size', '2', '--workers', '0', '--no-report']
    command = [sys.executable, '-m', 'emo_mm.cli', 'train', *small]
    own = {'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
    first = [*command, '--epochs', '1', '--no-val', '--work-dir', str(tmp_path / '0')]
    subprocess.run(first, check=True, capture_output=True, env={**os.environ, **own})
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = str(probe.getsockname()[1])
    running = []
    for rank in ('0', '1'):
        numbers = {'RANK': rank, 'WORLD_SIZE': '2', 'LOCAL_RANK': rank, 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': port}
        arguments = [*command, '--epochs', '2', '--work-dir', str(tmp_path / rank), '--resume', '--launcher', 'pytorch']
        env = {**os.environ, **own, **numbers}
        running.append(subprocess.Popen(arguments, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env))
    for process in running:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 1, errors[-3000:]
        assert 'Traceback' not in errors
        assert 'the processes do not start from the same checkpoint' in errors
        assert errors.rstrip().endswith(': the beginning')
    assert not list((tmp_path / '1').glob('*.pth'))
