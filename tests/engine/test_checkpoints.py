"""Checkpoints while the disk, the folder or the order of removal would lose one."""

import errno
import shutil
from pathlib import Path

import full_disk as disk
import pytest
import toy_training as toy

from emo_mm.engine.resume import atomic
from emo_mm.engine.resume.resuming import newest_checkpoint
from emo_mm.errors import UserError

pytestmark = pytest.mark.toolbox


@pytest.fixture
def full_disk(monkeypatch):
    """Let the writes of files whose name has a part fail as on a full disk, so many times."""
    faults = {'name': None, 'times': 0, 'errno': errno.ENOSPC}
    write = atomic.write_bytes

    def failing(path, data):
        if faults['name'] is not None and faults['name'] in path.name and faults['times']:
            faults['times'] -= 1
            with disk.full_disk():
                write(path, data)
        else:
            write(path, data)

    monkeypatch.setattr(atomic, 'write_bytes', failing)
    return faults


def test_a_full_disk_stops_the_run_with_one_line_and_the_former_checkpoint_whole(full_disk, tmp_path):
    full_disk.update(name='epoch_3', times=9)
    with pytest.raises(UserError, match=r'epoch_3\.pth cannot be written.*No space left.*--resume') as caught:
        toy.train(toy.config(tmp_path, max_keep_ckpts=1))
    assert '\n' not in str(caught.value)
    assert sorted(path.name for path in tmp_path.glob('epoch_*')) == ['epoch_2.pth']
    assert newest_checkpoint(tmp_path)[0].epoch == 2
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'epoch_2.pth')
    assert not list(tmp_path.glob('.*'))
    full_disk['times'] = 0
    toy.train(toy.config(tmp_path, max_keep_ckpts=1), 'auto')
    assert sorted(path.name for path in tmp_path.glob('epoch_*')) == ['epoch_4.pth']


def test_a_disk_with_room_for_the_kept_ones_only_makes_room_first_and_goes_on(full_disk, tmp_path):
    full_disk.update(name='epoch_3', times=1)
    toy.train(toy.config(tmp_path, max_keep_ckpts=2))
    assert sorted(path.name for path in tmp_path.glob('epoch_*')) == ['epoch_3.pth', 'epoch_4.pth']


def test_a_former_best_checkpoint_stays_until_the_next_is_whole(full_disk, tmp_path):
    toy.train(toy.config(tmp_path / 'whole'))
    assert [path.name for path in (tmp_path / 'whole').glob('best_*')] == ['best_acc_epoch_4.pth']
    full_disk.update(name='best_acc_epoch_4', times=9)
    with pytest.raises(UserError, match='best checkpoint cannot be written'):
        toy.train(toy.config(tmp_path / 'full'))
    assert [path.name for path in (tmp_path / 'full').glob('best_*')] == ['best_acc_epoch_2.pth']


def test_a_checkpoint_is_removed_only_after_the_next_is_whole(tmp_path, monkeypatch):
    write = atomic.write_bytes
    before, after = [], []

    def watched(path, data):
        before.append(sorted(file.name for file in tmp_path.glob('epoch_*')))
        write(path, data)
        after.append(path.name)

    monkeypatch.setattr(atomic, 'write_bytes', watched)
    toy.train(toy.config(tmp_path, max_keep_ckpts=1, save_best=None))
    assert after == [f'epoch_{i}.pth' for i in (1, 2, 3, 4)]
    assert before == [[], ['epoch_1.pth'], ['epoch_2.pth'], ['epoch_3.pth']]
    assert sorted(file.name for file in tmp_path.glob('epoch_*')) == ['epoch_4.pth']


@pytest.mark.parametrize('by_epoch', [True, False])
def test_a_work_directory_that_vanishes_is_made_anew_with_a_checkpoint(tmp_path, monkeypatch, by_epoch):
    from emo_mm.engine.resume import loops

    between = loops._StoppableLoop._between_iterations

    def vanishing(loop):
        if loop.iter == 7:
            shutil.rmtree(tmp_path / 'run')
        between(loop)
        if loop.iter == 7:
            assert newest_checkpoint(tmp_path / 'run')[0].iteration == 7

    monkeypatch.setattr(loops._StoppableLoop, '_between_iterations', vanishing)
    toy.train(toy.config(tmp_path / 'run', by_epoch))
    assert newest_checkpoint(tmp_path / 'run')[0].iteration == toy.ITERS


def test_a_disk_that_became_read_only_stops_the_run_with_one_line(tmp_path, monkeypatch):
    open_file = Path.open

    def failing(path, mode='r', *args, **kwargs):
        if path.suffix == '.partial' and (tmp_path / 'last_checkpoint').is_file():  # after the first checkpoint
            raise OSError(errno.EROFS, 'Read-only file system', str(path))
        return open_file(path, mode, *args, **kwargs)

    monkeypatch.setattr(Path, 'open', failing)
    with pytest.raises(UserError, match='Read-only file system'):
        toy.train(toy.config(tmp_path))
    assert newest_checkpoint(tmp_path)[0].epoch == 1


def test_another_number_of_processes_is_told_with_what_it_does_to_the_batch():
    from emo_mm.engine.resume.checkpoints import other_processes

    assert 'a step has 8 images where 32 were with this batch size; the learning rate stays' in other_processes(4, 1, 8)
    assert 'other random numbers; the learning rate stays' in other_processes(2, 4, None)
