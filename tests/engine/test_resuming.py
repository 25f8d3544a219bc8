"""Going on with a training: exactly, and from the newest checkpoint that is complete."""

import json
import random
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import toy_training as toy
from mmengine.config import Config
from planning import make_resumable, resume
from torch.utils.data import DataLoader

from emo_mm.engine.resume import checkpoints, loops
from emo_mm.engine.resume.random_state import random_state, set_random_state, unchanged_random_state
from emo_mm.engine.resume.resuming import newest_checkpoint, read_resume_point
from emo_mm.errors import UserError

pytestmark = pytest.mark.toolbox


class Killed(BaseException):
    """Ends a training at once, as a signal does that nothing can catch."""


def train_until(cfg, iteration, monkeypatch, resuming=None, save=False):
    """Train until so many iterations are done, and save a checkpoint there or not."""
    runner = toy.build(cfg, resuming)

    def kill(loop):
        if loop.iter == iteration:
            if save:
                loop._checkpoint_hook().save_now(runner)
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(loops._StoppableLoop, '_between_iterations', kill)
        with pytest.raises(Killed):
            runner.train()


def disturb_random_numbers():
    """Another process has other random numbers."""
    random.seed(77)
    np.random.seed(77)  # noqa: NPY002
    torch.manual_seed(77)


@pytest.fixture(scope='module', params=[True, False], ids=['epochs', 'iterations'])
def whole(request, tmp_path_factory):
    """A training that nothing disturbs: how it counts, its folder, and what its last checkpoint holds."""
    folder = tmp_path_factory.mktemp('whole')
    toy.train(toy.config(folder, request.param))
    return SimpleNamespace(by_epoch=request.param, folder=folder, state=toy.final_state(folder))


def test_a_training_killed_twice_ends_with_the_same_weights_bit_for_bit(whole, tmp_path, monkeypatch):
    train_until(toy.config(tmp_path, whole.by_epoch), 13, monkeypatch)
    assert newest_checkpoint(tmp_path)[0].iteration == (10 if whole.by_epoch else 12)
    disturb_random_numbers()
    # Saved in the midst of an epoch, as a signal does it.
    train_until(toy.config(tmp_path, whole.by_epoch), 18, monkeypatch, 'auto', save=True)
    assert newest_checkpoint(tmp_path)[0].path.name == 'stopped_iter_18.pth'
    disturb_random_numbers()
    toy.train(toy.config(tmp_path, whole.by_epoch), 'auto')
    assert toy.differences(whole.state, toy.final_state(tmp_path)) == []
    assert not list(tmp_path.glob('stopped_*'))  # the next regular checkpoint took its place


def test_without_the_random_state_a_resumed_training_would_end_elsewhere(whole, tmp_path, monkeypatch):
    train_until(toy.config(tmp_path, whole.by_epoch), 13, monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, 'set_random_state', lambda state: None)
        toy.train(toy.config(tmp_path, whole.by_epoch), 'auto')
    assert any('state_dict' in place for place in toy.differences(whole.state, toy.final_state(tmp_path)))


def test_a_validation_that_the_kill_prevented_is_done_first(whole, tmp_path):
    """Its best checkpoint and its figures would be missing."""
    last = 'epoch_4.pth' if whole.by_epoch else 'iter_20.pth'
    state = torch.load(whole.folder / last, weights_only=True)
    del state['message_hub']['runtime_info']['best_score']
    state['resume']['validated'] = False
    torch.save(state, tmp_path / last)
    runner = toy.train(toy.config(tmp_path, whole.by_epoch), 'auto')
    log = next(whole.folder.glob('*/vis_data/scalars.json')).read_text().splitlines()
    scores = [json.loads(line)['acc'] for line in log if '"acc"' in line]
    assert runner.message_hub.get_info('best_score') == scores[-1]
    assert len(list(tmp_path.glob('best_*.pth'))) == 1
    assert len(list(whole.folder.glob('best_*.pth'))) == 1  # the original, from which this folder was copied, keeps its


def test_the_state_of_the_generators_is_plain_data_and_comes_back(tmp_path):
    random.gauss(0, 1), np.random.randn()  # noqa: NPY002, each keeps a second number for the next call
    torch.save(random_state(), tmp_path / 'state.pth')

    def draw():
        numpy = np.random.randn(), np.random.rand()  # noqa: NPY002
        return random.gauss(0, 1), random.random(), numpy, torch.rand(2).tolist()

    drawn = draw()
    with unchanged_random_state():
        disturb_random_numbers()
    set_random_state(torch.load(tmp_path / 'state.pth', weights_only=True))
    assert draw() == drawn


class Indices(torch.utils.data.Dataset):
    def __len__(self):
        return 7

    def __getitem__(self, index):
        return index


@pytest.mark.parametrize('workers', [0, 2])
def test_the_batches_after_a_position_are_those_of_a_run_from_the_start(workers):
    loader = DataLoader(Indices(), batch_size=2, num_workers=workers)
    whole = loops._reordered(loader, loops._endless(loader), 0)
    rest = loops._reordered(loader, loops._endless(loader), 5)
    first = [batch.tolist() for batch, _ in zip(whole, range(9), strict=False)]
    assert first[:5] == [[0, 1], [2, 3], [4, 5], [6], [0, 1]]
    assert [batch.tolist() for batch, _ in zip(rest, range(4), strict=False)] == first[5:]


def test_a_training_set_of_less_than_a_batch_is_an_error_and_no_endless_loop():
    loader = DataLoader(Indices(), batch_size=8, drop_last=True)
    with pytest.raises(UserError, match='smaller --batch-size'):
        next(loops._endless(loader))


@pytest.fixture
def work_dir(whole, tmp_path):
    """A copy of a finished training that kept its last two checkpoints; oldest first, as they are called."""
    if not whole.by_epoch:
        pytest.skip('once is enough')
    for path in whole.folder.glob('*.pth'):
        shutil.copy(path, tmp_path / path.name)
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_4.pth'))
    return tmp_path


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def first_weight(path):
    return torch.load(path, weights_only=True)['state_dict']['layers.0.weight']


def flip_a_bit(path):
    """Damage a weight, which torch reads without a word."""
    weight = first_weight(path)
    data = bytearray(path.read_bytes())
    data[data.index(weight.numpy().tobytes())] ^= 1
    path.write_bytes(data)
    assert not torch.equal(first_weight(path), weight)


def leave_out_the_optimizer(path):
    checkpoint = torch.load(path, weights_only=True)
    del checkpoint['optimizer']
    torch.save(checkpoint, path)


def empty(path):
    path.write_bytes(b'')


@pytest.mark.parametrize(
    ('damage', 'reason'),
    [
        (truncate, 'damaged'),
        (flip_a_bit, 'checksum'),
        (leave_out_the_optimizer, 'holds no optimizer'),
        (empty, 'empty'),
    ],
)
def test_a_broken_checkpoint_is_skipped_though_the_pointer_names_it(work_dir, damage, reason):
    damage(work_dir / 'epoch_4.pth')
    cfg = toy.config(work_dir)
    lines = resume(cfg, 'auto')
    assert cfg.load_from == str(work_dir / 'epoch_3.pth')
    assert len(lines) == 2
    assert 'skipped' in lines[0] and 'epoch_4.pth' in lines[0] and reason in lines[0]  # noqa: PT018
    assert lines[1] == f'resuming from {work_dir}/epoch_3.pth (epoch 3, iteration 15)'
    with pytest.raises(UserError, match=rf'--resume .*epoch_4\.pth.*{reason}'):
        resume(cfg, str(work_dir / 'epoch_4.pth'))


def test_the_newest_checkpoint_is_the_one_written_last_whatever_the_pointer_and_the_dates_of_the_files(work_dir):
    (work_dir / 'last_checkpoint').write_text('')  # half written
    (work_dir / 'epoch_3.pth').touch()
    assert newest_checkpoint(work_dir)[0].path == work_dir / 'epoch_4.pth'
    # A training that started over in the folder of an old one that went further.
    checkpoint = torch.load(work_dir / 'epoch_3.pth', weights_only=True)
    checkpoint['resume']['saved_at'] += 1000
    torch.save(checkpoint, work_dir / 'epoch_3.pth')
    assert newest_checkpoint(work_dir)[0].path == work_dir / 'epoch_3.pth'


def test_checkpoints_of_mmengine_alone_are_ordered_by_the_time_that_it_notes(work_dir):
    for name, time in (('epoch_3.pth', '20260102_000000'), ('epoch_4.pth', '20260101_000000')):
        checkpoint = torch.load(work_dir / name, weights_only=True)
        del checkpoint['resume']
        checkpoint['meta']['time'] = time
        torch.save(checkpoint, work_dir / name)
    assert newest_checkpoint(work_dir)[0].path == work_dir / 'epoch_3.pth'


def test_where_no_checkpoint_is_whole_nothing_starts_from_the_beginning_unasked(work_dir):
    for path in work_dir.glob('epoch_*.pth'):
        truncate(path)
    with pytest.raises(UserError, match='leave out --resume') as caught:
        resume(toy.config(work_dir), 'auto')
    assert str(caught.value).count('damaged') == 2


def test_an_empty_work_directory_starts_from_the_beginning_and_says_so(tmp_path):
    cfg = toy.config(tmp_path)
    assert 'from its beginning' in resume(cfg, 'auto')[0]
    assert not cfg.resume


def test_the_seed_of_the_run_is_taken_over(work_dir):
    cfg = toy.config(work_dir)
    cfg.pop('randomness')
    resume(cfg, 'auto')
    assert cfg.randomness.seed == 3
    cfg.randomness = dict(seed=5)
    assert 'seed 5 is not used' in resume(cfg, 'auto')[-1]
    assert cfg.randomness.seed == 3


def test_a_checkpoint_of_weights_alone_is_refused_with_what_to_do(work_dir):
    best = next(work_dir.glob('best_*.pth'))
    with pytest.raises(UserError, match=r'holds no optimizer.*load_from'):
        read_resume_point(best)


def test_hooks_and_loops_of_others_stay_as_they_are():
    remote = dict(type='CheckpointHook', backend_args=dict(backend='petrel'))
    cfg = Config(dict(train_cfg=dict(type='EpochBasedTrainLoop'), default_hooks=dict(checkpoint=remote)))
    assert 'signals do not save' in make_resumable(cfg)[0]
    assert cfg.train_cfg.type == 'EpochBasedTrainLoop'
    assert cfg.default_hooks.checkpoint == remote
    cfg = Config(dict(train_cfg=dict(type='MyLoop')))
    assert 'MyLoop' in make_resumable(cfg)[0]
    assert cfg.default_hooks.checkpoint.type == 'emo_mm.SafeCheckpointHook'
    cfg = Config(dict(train_cfg=dict(by_epoch=False, max_iters=3)))
    assert make_resumable(cfg) == []
    assert cfg.train_cfg.type == 'emo_mm.ResumableIterLoop'
    assert cfg.custom_hooks[0].type == 'emo_mm.PlainCheckpointHook'
