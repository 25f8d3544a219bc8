"""A training that is killed again and again ends as one that never was."""

import random
import signal
import time

import pytest
import toy_training as toy

from emo_mm.engine.resume.resuming import newest_checkpoint

pytestmark = pytest.mark.toolbox

STAGES = ('half written', 'not renamed', 'renamed')


def whole_run(processes, folder, by_epoch):
    """Return the final state of a training that nothing disturbs, and the seconds that it took."""
    process = processes.Process(target=toy.train_and_die, args=(folder, by_epoch))
    start = time.monotonic()
    process.start()
    process.join()
    assert process.exitcode == 0
    return toy.final_state(folder), time.monotonic() - start


def kill_at_random(processes, folder, by_epoch, seconds, choose):
    """Start a training, or go on with it, and kill it; return whether it came to its end before."""
    if choose.random() < 0.5:
        write, stage = choose.randrange(12), choose.choice(STAGES)
        process = processes.Process(target=toy.train_and_die, args=(folder, by_epoch, write, stage))
        process.start()
        process.join()
    else:
        process = processes.Process(target=toy.train_and_die, args=(folder, by_epoch))
        process.start()
        process.join(choose.uniform(0, 1.2 * seconds))
        process.kill()
        process.join()
    assert process.exitcode in (0, -signal.SIGKILL, -signal.SIGXFSZ)
    return process.exitcode == 0


def kill_until(processes, tmp_path, by_epoch, kills, seed):
    """Kill trainings at so many moments, each resumed until it ends; check each end, and that nothing is lost."""
    whole, seconds = whole_run(processes, tmp_path / 'whole', by_epoch)
    choose = random.Random(seed)
    done, ends, folder, iteration = 0, 0, tmp_path / 'killed_0', 0
    while done < kills or not ends:
        if done < kills:
            ended = kill_at_random(processes, folder, by_epoch, seconds, choose)
        else:
            process = processes.Process(target=toy.train_and_die, args=(folder, by_epoch))
            process.start()
            process.join()
            ended = process.exitcode == 0
            assert ended
        if ended:
            assert toy.differences(whole, toy.final_state(folder)) == []
            ends, folder, iteration = ends + 1, tmp_path / f'killed_{ends + 1}', 0
            continue
        done += 1
        checkpoint, skipped = newest_checkpoint(folder)
        assert skipped == []  # no file of a checkpoint's name is ever incomplete
        assert iteration == 0 or checkpoint.iteration >= iteration
        iteration = checkpoint.iteration if checkpoint else 0
    return ends


@pytest.mark.parametrize('by_epoch', [True, False])
def test_a_training_killed_in_a_write_and_elsewhere_ends_with_the_same_weights(processes, tmp_path, by_epoch):
    kill_until(processes, tmp_path, by_epoch, kills=3, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize('seed', [1, 2])
@pytest.mark.parametrize('by_epoch', [True, False])
def test_a_training_killed_at_20_random_moments_ends_with_the_same_weights(processes, tmp_path, by_epoch, seed):
    ends = kill_until(processes, tmp_path, by_epoch, kills=20, seed=seed)
    print(f'20 kills, {ends} trainings brought to their end')


@pytest.mark.parametrize('stage', STAGES)
def test_a_kill_in_the_midst_of_a_write_leaves_the_former_checkpoint_and_no_broken_one(processes, tmp_path, stage):
    # The third and later writes are those of the second epoch: checkpoint, pointer, best checkpoint, ...
    process = processes.Process(target=toy.train_and_die, args=(tmp_path, True, 2, stage))
    process.start()
    process.join()
    assert process.exitcode == (-signal.SIGXFSZ if stage == 'half written' else -signal.SIGKILL)
    checkpoint, skipped = newest_checkpoint(tmp_path)
    assert skipped == []
    assert checkpoint.epoch == (2 if stage == 'renamed' else 1)
    assert len(list(tmp_path.glob('.*.partial'))) == (0 if stage == 'renamed' else 1)
    process = processes.Process(target=toy.train_and_die, args=(tmp_path, True))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert list(tmp_path.glob('.*.partial')) == []


def test_a_kill_between_the_last_checkpoint_and_its_pointer_loses_neither_it_nor_its_validation(processes, tmp_path):
    whole, _ = whole_run(processes, tmp_path / 'whole', by_epoch=True)
    # The ninth write is the last checkpoint, before its validation.
    process = processes.Process(target=toy.train_and_die, args=(tmp_path / 'killed', True, 9, 'renamed'))
    process.start()
    process.join()
    assert newest_checkpoint(tmp_path / 'killed')[0].epoch == toy.EPOCHS
    assert 'epoch_3' in (tmp_path / 'killed/last_checkpoint').read_text()
    toy.train(toy.config(tmp_path / 'killed'), 'auto')
    assert toy.differences(whole, toy.final_state(tmp_path / 'killed')) == []
