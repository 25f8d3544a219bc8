"""SIGTERM and Ctrl-C save before the training leaves."""

import signal
import socket

import pytest
import torch
import toy_training as toy

from emo_mm.engine.resume import signals
from emo_mm.engine.resume.resuming import newest_checkpoint
from emo_mm.engine.resume.signals import StopRequest, TrainingStopped

pytestmark = pytest.mark.toolbox

CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}


def signalled(work_dir, by_epoch, **settings):
    cfg = toy.config(work_dir, by_epoch)
    cfg.custom_hooks.append(dict(type='ToySignals', **settings))
    return cfg


@pytest.mark.parametrize('by_epoch', [True, False])
# In the midst of an epoch, and at the end of one that a validation follows (of 10 iterations or of 6).
@pytest.mark.parametrize(('signum', 'iteration'), [(signal.SIGTERM, 8), (signal.SIGINT, 10), (signal.SIGINT, 6)])
def test_a_signal_saves_after_the_iteration_and_the_resumed_training_ends_the_same(
    tmp_path, by_epoch, signum, iteration
):
    before = signal.getsignal(signum)
    with pytest.raises(TrainingStopped) as stopped:
        toy.train(signalled(tmp_path / 'stopped', by_epoch, signals=[int(signum)], iteration=iteration))
    assert stopped.value.code == CODES[signum]
    assert signal.getsignal(signum) is before
    assert newest_checkpoint(tmp_path / 'stopped')[0].path.name == f'stopped_iter_{iteration}.pth'
    assert (tmp_path / 'stopped/last_checkpoint').read_text().endswith(f'stopped_iter_{iteration}.pth')
    toy.train(toy.config(tmp_path / 'stopped', by_epoch), 'auto')
    toy.train(toy.config(tmp_path / 'whole', by_epoch))
    assert toy.differences(toy.final_state(tmp_path / 'whole'), toy.final_state(tmp_path / 'stopped')) == []


@pytest.mark.parametrize('by_epoch', [True, False])
def test_a_signal_in_a_validation_leaves_it_and_saves_the_trained_weights(tmp_path, by_epoch):
    with pytest.raises(TrainingStopped):
        toy.train(signalled(tmp_path / 'stopped', by_epoch, signals=[int(signal.SIGTERM)]))
    assert newest_checkpoint(tmp_path / 'stopped')[0].iteration == (10 if by_epoch else 6)
    assert not list((tmp_path / 'stopped').glob('best_*'))
    toy.train(toy.config(tmp_path / 'stopped', by_epoch), 'auto')
    toy.train(toy.config(tmp_path / 'whole', by_epoch))
    assert toy.differences(toy.final_state(tmp_path / 'whole'), toy.final_state(tmp_path / 'stopped')) == []


def test_a_second_signal_leaves_at_once(monkeypatch, capfd):
    monkeypatch.setattr(signals, '_leave', lambda signum: (_ for _ in ()).throw(SystemExit(128 + signum)))
    monkeypatch.delenv('RANK', raising=False)
    request = StopRequest()
    request.receive(signal.SIGINT, None)
    assert 'once more leaves at once' in capfd.readouterr().err
    with pytest.raises(SystemExit) as left:
        request.receive(signal.SIGINT, None)
    assert left.value.code == 130


def test_torchrun_passing_on_a_ctrl_c_is_no_second_signal(monkeypatch):
    monkeypatch.setattr(signals, '_leave', lambda signum: pytest.fail('left'))
    monkeypatch.setenv('RANK', '1')
    request = StopRequest()
    request.receive(signal.SIGINT, None)
    request.receive(signal.SIGTERM, None)
    assert request.signum == signal.SIGINT


@pytest.mark.parametrize('signum', CODES)
def test_a_signal_to_the_whole_job_does_not_kill_the_loader_processes_first(processes, tmp_path, signum):
    process = processes.Process(target=toy.train_and_be_signalled, args=(tmp_path, 2, int(signum), 7))
    process.start()
    process.join()
    assert process.exitcode == CODES[signum]
    assert newest_checkpoint(tmp_path)[0].iteration == 7


def train_by_two(processes, work_dir, by_epoch, stop_at=None):
    """Train in two processes; return their exit codes."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    ranks = [
        processes.Process(target=toy.train_as_rank, args=(work_dir, rank, port, by_epoch, stop_at)) for rank in (0, 1)
    ]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join()
    return [process.exitcode for process in ranks]


@pytest.mark.parametrize('by_epoch', [True, False])
def test_a_signal_to_one_of_two_processes_stops_both_after_the_same_iteration(processes, tmp_path, by_epoch):
    assert train_by_two(processes, tmp_path / 'stopped', by_epoch, stop_at=7) == [143, 143]
    checkpoint = newest_checkpoint(tmp_path / 'stopped')[0]
    assert checkpoint.iteration == 7
    states = torch.load(checkpoint.path, weights_only=True)['resume']['random_states']
    assert len(states) == 2
    assert train_by_two(processes, tmp_path / 'stopped', by_epoch) == [0, 0]
    assert train_by_two(processes, tmp_path / 'whole', by_epoch) == [0, 0]
    assert toy.differences(toy.final_state(tmp_path / 'whole'), toy.final_state(tmp_path / 'stopped')) == []
