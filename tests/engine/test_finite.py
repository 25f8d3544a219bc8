"""Numbers that are not finite stop a training before they reach the weights, or are skipped where that is asked for."""

from __future__ import annotations

import copy
import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from data_trees import write_folders
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.registry import DATASETS, MODELS, OPTIM_WRAPPERS
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from planning import guard_numbers
from torch import nn
from torch.utils.data import Dataset

from emo_mm.engine.guard.finite import FiniteHook, not_finite
from emo_mm.errors import UserError

pytestmark = pytest.mark.toolbox

_numbers = itertools.count()


@DATASETS.register_module(force=True)
class NumberedImages(Dataset):
    """Noise; the images of ``bad`` hold a number with which no loss is finite, those of ``flat`` are zero."""

    metainfo: ClassVar = {'classes': ('a', 'b')}

    def __init__(self, bad=(), flat=(), value=float('nan')):
        self.bad, self.flat, self.value = bad, flat, value

    def __len__(self):
        return 12

    def __getitem__(self, index):
        image = torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(index))
        if index in self.flat:
            image = torch.zeros(3, 4, 4)
        if index in self.bad:
            image[0, 0, 0] = self.value
        sample = BaseDataElement(metainfo=dict(img_path=f'photos/{index}.jpg'), label=index % 2)
        return {'inputs': image, 'data_samples': sample}


class Length(nn.Module):
    """The root of a sum of squares: finite at zero, where its gradient is not."""

    def forward(self, x):
        return x.square().sum(1, keepdim=True).sqrt()


@MODELS.register_module(force=True)
class WatchedModel(BaseModel):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.length = Length()
        self.head = nn.Linear(17, 2)
        self.drop = nn.Dropout(0.2)

    def forward(self, inputs, data_samples, mode='tensor'):
        images = torch.stack(inputs)
        features = self.drop(self.norm(self.stem(images)).flatten(1))
        scores = self.head(torch.cat([features, self.length(images.flatten(1) * self.head.weight[0, 0])], 1))
        labels = torch.tensor([sample.label for sample in data_samples])
        return {'loss_cls': nn.functional.cross_entropy(scores, labels), 'acc': torch.tensor(float('nan'))}


@OPTIM_WRAPPERS.register_module(force=True)
class ScaledOptimWrapper(OptimWrapper):
    """MMEngine's wrapper for mixed precision, which it allows on GPUs only: the same steps with the scaler of CPUs."""

    def __init__(self, init_scale, **kwargs):
        super().__init__(**kwargs)
        self.loss_scaler = torch.amp.GradScaler('cpu', init_scale=init_scale)

    def backward(self, loss, **kwargs):
        self.loss_scaler.scale(loss).backward(**kwargs)
        self._inner_count += 1

    def step(self, **kwargs):
        if self.clip_grad_kwargs:
            self.loss_scaler.unscale_(self.optimizer)
            self._clip_grad()
        self.loss_scaler.step(self.optimizer, **kwargs)
        self.loss_scaler.update()


class Recorder(FiniteHook):
    """Keeps the state of the training as it was before each iteration."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        super().before_train_iter(runner, batch_idx, data_batch)
        self.before = state(runner)


def state(runner):
    parts = {'model': runner.model.state_dict(), 'optimizer': runner.optim_wrapper.optimizer.state_dict()}
    return copy.deepcopy(parts)


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def config(work_dir: Path, data: dict | None = None, **optim) -> Config:
    """A training of two images a step, in their order."""
    wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.01))
    return Config(
        dict(
            work_dir=str(work_dir),
            experiment_name=f'finite_{next(_numbers)}',
            model=dict(type='WatchedModel'),
            train_dataloader=dict(
                batch_size=2,
                num_workers=0,
                sampler=dict(type='DefaultSampler', shuffle=False),
                dataset=dict(type='NumberedImages', **(data or {})),
            ),
            train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=1),
            optim_wrapper={**wrapper, **optim},
            default_hooks=dict(logger=dict(type='LoggerHook', interval=1), checkpoint=None),
            log_level='WARNING',
            randomness=dict(seed=0),
        )
    )


def runner_of(work_dir: Path, skip: int = 0, data: dict | None = None, **optim) -> tuple[Runner, Recorder]:
    """A training of six steps, and what watches it."""
    runner = Runner.from_cfg(config(work_dir, data, **optim))
    hook = Recorder(skip)
    runner.register_hook(hook)
    return runner, hook


@pytest.mark.parametrize(
    ('value', 'origin'),
    [(float('nan'), 'The preprocessed batch itself'), (3.4e38, 'is length (Length), on finite input')],
    ids=['batch', 'module'],
)
def test_a_loss_that_is_not_finite_stops_at_once_and_leaves_all_as_it_was(tmp_path, value, origin):
    runner, hook = runner_of(tmp_path, data=dict(bad=[5], value=value))
    with pytest.raises(UserError) as raised:
        runner.train()
    message = str(raised.value)
    assert message.startswith('iteration 3: the loss is not finite (loss_cls nan).')
    assert origin in message
    assert 'It comes from photos/5.jpg. Batch: photos/4.jpg, photos/5.jpg.' in message
    assert '\n' not in message
    assert hook.before['optimizer']['state'][0]['step'] == 2
    assert same(state(runner), hook.before)


def test_a_gradient_that_is_not_finite_stops_at_once_and_leaves_all_as_it_was(tmp_path):
    runner, hook = runner_of(tmp_path, data=dict(flat=[6]))
    with pytest.raises(UserError) as raised:
        runner.train()
    message = str(raised.value)
    assert message.startswith('iteration 4: the loss is finite, but its gradient is not.')
    assert 'parameter head.weight' in message
    assert 'Batch: photos/6.jpg, photos/7.jpg.' in message
    assert same(state(runner), hook.before)


def test_weights_that_are_not_finite_are_named_with_their_module(tmp_path):
    runner, _ = runner_of(tmp_path)
    with torch.no_grad():
        runner.model.norm.bias[1] = float('inf')
    with pytest.raises(UserError, match=r'iteration 1: .* norm \(BatchNorm2d\), .* its own bias is not finite'):
        runner.train()


def test_the_newest_checkpoint_is_named(tmp_path):
    (tmp_path / 'last_checkpoint').write_text('runs/epoch_4.pth')
    with pytest.raises(UserError, match=r'The newest checkpoint is runs/epoch_4\.pth'):
        runner_of(tmp_path, data=dict(bad=[0]))[0].train()


@pytest.mark.parametrize('optim', [{}, dict(clip_grad=dict(max_norm=1))], ids=['plain', 'clipped'])
def test_so_many_steps_are_skipped_and_counted_and_the_next_one_stops(tmp_path, optim):
    runner, hook = runner_of(tmp_path / 'a', skip=2, data=dict(bad=[2], flat=[8]), **optim)
    runner.train()
    assert hook.skipped == [2, 5]
    assert runner.optim_wrapper.optimizer.state_dict()['state'][0]['step'] == 4
    assert all(value.isfinite().all() for value in runner.model.state_dict().values())
    log = next((tmp_path / 'a').glob('*/*.log')).read_text()
    assert '2 steps of 6 skipped' in log
    lines = next((tmp_path / 'a').glob('*/vis_data/scalars.json')).read_text().splitlines()
    losses = [json.loads(line).get('loss') for line in lines]
    assert all(loss is None or loss == loss for loss in losses)  # none is not a number
    runner, hook = runner_of(tmp_path / 'b', skip=1, data=dict(bad=[2], flat=[8]), **optim)
    with pytest.raises(UserError, match=r'iteration 5: .* 1 step had been skipped before it'):
        runner.train()


def test_a_skipped_step_changes_nothing_and_draws_no_random_numbers_of_its_own(tmp_path):
    ends = []
    for skip, bad in ((0, []), (1, [11])):  # the last step of six
        runner, hook = runner_of(tmp_path / str(skip), skip=skip, data=dict(bad=bad))
        torch.manual_seed(1)
        runner.train()
        ends.append((torch.get_rng_state(), hook.before))
        if bad:
            assert same(state(runner), hook.before)
    assert same(ends[0][1], ends[1][1])
    assert torch.equal(ends[0][0], ends[1][0])


@pytest.mark.parametrize('bad', [2, 5], ids=['while summing up', 'at the step'])
def test_gradients_that_are_summed_up_are_looked_at_in_every_iteration(tmp_path, bad):
    runner, hook = runner_of(tmp_path, data=dict(bad=[bad]), accumulative_counts=3)
    with pytest.raises(UserError, match=f'iteration {bad // 2 + 1}: the loss'):
        runner.train()
    assert same(state(runner), hook.before)
    assert all(parameter.grad is None for parameter in runner.model.parameters())


@pytest.mark.parametrize('fused', [False, True], ids=['plain', 'fused'])
@pytest.mark.parametrize('clip', [None, dict(max_norm=1.0)], ids=['free', 'clipped'])
def test_gradients_that_overflow_as_they_are_scaled_do_not_stop(tmp_path, fused, clip):
    optim = dict(type='ScaledOptimWrapper', init_scale=2.0**127, clip_grad=clip)
    optimizer = dict(type='AdamW', lr=0.01, fused=fused)
    runner, hook = runner_of(tmp_path, **optim, optimizer=optimizer)
    runner.train()
    assert hook.skipped == []
    assert runner.optim_wrapper.loss_scaler.get_scale() < 2.0**127  # some did overflow
    steps = runner.optim_wrapper.optimizer.state_dict()['state'][0]['step']
    assert 1 <= steps < 6


@pytest.mark.parametrize('fused', [False, True], ids=['plain', 'fused'])
@pytest.mark.parametrize(
    ('data', 'scale', 'message'),
    [(dict(bad=[4]), 1024.0, 'iteration 3: the loss is not'), (dict(flat=[4]), 1.0, 'iteration 3: the loss is finite')],
    ids=['loss', 'gradient'],
)
def test_what_is_not_finite_without_scaling_stops_a_scaled_training_too(tmp_path, fused, data, scale, message):
    optim = dict(type='ScaledOptimWrapper', init_scale=scale, optimizer=dict(type='AdamW', lr=0.01, fused=fused))
    runner, hook = runner_of(tmp_path, data=data, **optim)
    with pytest.raises(UserError, match=message):
        runner.train()
    assert same(state(runner)['model'], hook.before['model'])


def test_weights_made_infinite_by_a_finite_step_are_not_saved(tmp_path):
    runner, _ = runner_of(tmp_path)
    runner.train()
    with torch.no_grad():
        runner.model.head.bias[0] = float('inf')
    with pytest.raises(UserError, match=r'not saved: head\.bias'):
        runner.save_checkpoint(str(tmp_path), 'epoch_1.pth')
    assert not (tmp_path / 'epoch_1.pth').exists()


def test_the_command_stops_with_one_message_and_keeps_the_checkpoint_before(tmp_path, run_cli):
    data = write_folders(tmp_path / 'data')
    args = ['--data-root', data.data_root, '--work-dir', tmp_path / 'run', '--workers', 0, '--batch-size', 2]
    args += ['--epochs', 3, '--cfg-options', 'param_scheduler=[]', 'optim_wrapper.clip_grad=None']
    result = run_cli('train', 'emo_1m_demo', *args, '--lr', '1e30')
    assert result.code == 1
    told = result.err[result.err.index('error: ') :].splitlines()
    assert len(told) == 1
    assert 'iteration 2: the loss is not finite' in told[0] or 'weights are not finite' in told[0]
    assert 'Traceback' not in result.err


def test_validation_is_not_watched(tmp_path):
    runner, hook = runner_of(tmp_path)
    runner.train()
    runner.model.eval()
    hook._before_forward(runner.model, (), {})
    assert hook._iteration.forwards == []


def test_numbers_of_any_size_and_kind_are_told_apart():
    huge = [torch.full((3,), 3e38), torch.full((2, 2), -6e4, dtype=torch.float16), torch.zeros(0)]
    assert not not_finite(huge)  # whose squares would overflow
    for value in (float('nan'), float('inf'), -float('inf')):
        assert not_finite([*huge, torch.tensor([1.0, value])])
    assert not not_finite([torch.zeros(0)])


def test_the_guard_takes_the_place_of_the_toolboxs_own():
    cfg = Config(dict(custom_hooks=[dict(type='EMAHook'), dict(type='CheckInvalidLossHook', interval=50)]))
    guard_numbers(cfg, 3)
    assert [hook.type for hook in cfg.custom_hooks] == ['EMAHook', 'emo_mm.FiniteHook']
    with pytest.raises(UserError, match='--skip-non-finite is -1'):
        guard_numbers(cfg, -1)


@pytest.mark.slow
def test_every_process_stops_and_one_speaks(repo_root, tmp_path):
    worker = Path(__file__).parents[1] / 'finite_worker.py'
    done = subprocess.run(
        [sys.executable, str(worker), str(tmp_path)], capture_output=True, text=True, check=False, timeout=600
    )
    assert json.loads((tmp_path / 'exits.json').read_text()) == [1, 1], done.stderr[-3000:]
    told = [line for line in done.stderr.splitlines() if line.startswith('error: ')]
    assert len(told) == 1
    assert 'iteration 3' in told[0]
    assert 'photos/9.jpg' in told[0]  # of the second process
