"""A training of milliseconds, with all that a resumption must restore: for tests of the engine.

Its data draw from the three random number generators as augmentation does, its model drops at random; it has momentum,
normalisation statistics, an average of the weights, a warm-up and a schedule.
"""

from __future__ import annotations

import itertools
import os
import random
import resource
import signal
from pathlib import Path
from typing import ClassVar

import matplotlib.pyplot  # noqa: F401, MMEngine's runner imports some late, as those below; now is before a fork
import mmcv.ops  # noqa: F401
import numpy as np
import torch
import torchvision  # noqa: F401
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, METRICS, MODELS
from mmengine.runner import Runner
from planning import make_resumable, resume
from torch import nn
from torch.utils.data import Dataset

from emo_mm import files
from emo_mm.engine.cpu.runner import cpu_runner
from emo_mm.engine.resume import atomic, checkpoints
from emo_mm.engine.runner import shutdown_distributed

IMAGES, BATCH, EPOCHS = 10, 2, 4
ITERS = EPOCHS * IMAGES // BATCH
_numbers = itertools.count()


@DATASETS.register_module(force=True)
class ToyImages(Dataset):
    """Noise whose seed is the index, shifted by numbers of the three generators."""

    metainfo: ClassVar = {'classes': ('a', 'b')}

    def __init__(self, side=8):
        self.side = side

    def __len__(self):
        return IMAGES

    def __getitem__(self, index):
        image = torch.randn(3, self.side, self.side, generator=torch.Generator().manual_seed(index))
        shift = random.random() + np.random.rand() + torch.rand(()).item()  # noqa: NPY002
        return {'inputs': image + shift, 'labels': torch.tensor(index % 2)}


@MODELS.register_module(force=True)
class ToyModel(BaseModel):
    def __init__(self):
        super().__init__()
        layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3), nn.AdaptiveAvgPool2d(3)
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * 9, 2))

    def forward(self, inputs, labels, mode='tensor'):
        scores = self.layers(torch.stack(inputs))
        if mode == 'loss':
            return {'loss': nn.functional.cross_entropy(scores, torch.stack(labels))}
        return list(scores)


@METRICS.register_module(force=True)
class ToyMetric(BaseMetric):
    """A score that rises and falls, so that the best checkpoint changes at some validations and not at others."""

    def process(self, data_batch, data_samples):
        torch.rand(3), random.random(), np.random.rand()  # noqa: NPY002, validation must not disturb the training
        self.results.extend(float(scores.sum()) for scores in data_samples)

    def compute_metrics(self, results):
        return {'acc': float(np.sin(10 * np.sum(results)))}


class ToyConfig(Config):
    pretty_text = 'toy'  # formatting it at each save would take longer than the training


class ToyRunner(Runner):
    def _log_env(self, env_cfg):
        pass  # it asks the compilers of the machine for their versions


def config(work_dir: str | Path, by_epoch: bool = True, workers: int = 0, **checkpoint) -> Config:
    """Return the config of a training of 4 epochs (or 20 iterations), checkpoints after each (or every 3)."""
    data = dict(type='ToyImages')
    sampler = 'DefaultSampler' if by_epoch else 'InfiniteSampler'
    loader = dict(batch_size=BATCH, num_workers=workers, persistent_workers=workers > 0, dataset=data)
    length = dict(max_epochs=EPOCHS, val_interval=2) if by_epoch else dict(max_iters=ITERS, val_interval=6)
    kept = dict(by_epoch=by_epoch, interval=1 if by_epoch else 3, save_best='acc', max_keep_ckpts=2)
    return ToyConfig(
        dict(
            work_dir=str(work_dir),
            experiment_name=f'toy_{next(_numbers)}',  # MMEngine keeps what it logs by this name
            model=dict(type='ToyModel'),
            train_dataloader=dict(loader, sampler=dict(type=sampler, shuffle=True)),
            val_dataloader=dict(loader, sampler=dict(type='DefaultSampler', shuffle=False)),
            train_cfg=dict(type='EpochBasedTrainLoop' if by_epoch else 'IterBasedTrainLoop', **length),
            val_cfg=dict(type='ValLoop'),
            val_evaluator=dict(type='ToyMetric'),
            optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.01)),
            param_scheduler=[
                dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=7),
                dict(type='CosineAnnealingLR', by_epoch=False, T_max=ITERS),
            ],
            default_hooks=dict(
                logger=dict(type='LoggerHook', interval=1, log_metric_by_epoch=by_epoch),
                checkpoint=dict(type='CheckpointHook', **{**kept, **checkpoint}),
            ),
            custom_hooks=[dict(type='EMAHook', momentum=0.1, update_buffers=True)],
            log_processor=dict(by_epoch=by_epoch),
            log_level='WARNING',
            randomness=dict(seed=3),
        )
    )


def build(cfg: Config, resuming: str | None = None) -> Runner:
    """Return the runner of a config as ``emo-mm train`` builds it."""
    make_resumable(cfg)
    if resuming is not None:
        resume(cfg, resuming)
    return ToyRunner.from_cfg(cfg)


def train(cfg: Config, resuming: str | None = None) -> Runner:
    """Train to the end; return the runner."""
    runner = build(cfg, resuming)
    runner.train()
    return runner


def final_state(work_dir: Path) -> dict:
    """Return what the last checkpoint holds, without what must differ between two runs: times and places."""
    checkpoint = torch.load(Path((work_dir / 'last_checkpoint').read_text()), weights_only=True)
    names = ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers')
    state = {name: checkpoint[name] for name in names}
    state['random_states'] = checkpoint['resume']['random_states']
    state['step'] = checkpoint['meta']['epoch'], checkpoint['meta']['iter']
    state['losses'] = checkpoint['message_hub']['log_scalars']['train/loss']
    state['best'] = checkpoint['message_hub']['runtime_info']['best_score']
    return state


def differences(one: object, other: object, where: str = '') -> list[str]:
    """Return the places at which two nested states are not equal, bit for bit."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return [] if one.dtype == other.dtype and torch.equal(one, other) else [where]
    if isinstance(one, dict) and isinstance(other, dict):
        if one.keys() != other.keys():
            return [f'{where}: {sorted(map(str, one.keys() ^ other.keys()))}']
        return [place for key in one for place in differences(one[key], other[key], f'{where}.{key}')]
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)) and len(one) == len(other):
        return [p for i, pair in enumerate(zip(one, other, strict=True)) for p in differences(*pair, f'{where}[{i}]')]
    return [] if one == other else [f'{where}: {one!r} != {other!r}']


def train_and_die(work_dir: Path, by_epoch: bool, at_write: int | None = None, stage: str = 'half written') -> None:
    """Train to the end, resuming what is there; for a process of its own, which may be killed or kill itself.

    Args:
        work_dir: Its work directory.
        by_epoch: Whether it counts epochs.
        at_write: In which write to die, counted from 0; none if None.
        stage: Where in it: `half written`, `not renamed` or `renamed`.
    """
    if at_write is not None:
        _die_in_write(at_write, stage)
    train(config(work_dir, by_epoch), 'auto')


def _die_in_write(number: int, stage: str) -> None:
    """Let this process be killed in the midst of a write of a checkpoint or of the pointer to it."""
    writes = itertools.count()
    write, sync = files.write_bytes, os.fsync

    def dying_write(path: Path, data: bytes) -> None:
        if next(writes) == number:
            if stage == 'half written':
                signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it
                resource.setrlimit(resource.RLIMIT_FSIZE, (len(data) // 2, len(data) // 2))
            syncs = itertools.count()

            def dying_sync(handle: int) -> None:
                if next(syncs) == (1 if stage == 'renamed' else 0):
                    os.kill(os.getpid(), signal.SIGKILL)
                sync(handle)

            os.fsync = dying_sync
        write(path, data)

    atomic.write_bytes = checkpoints.write_bytes = dying_write


@HOOKS.register_module(force=True)
class ToySignals(Hook):
    """Sends signals to this process, or to all of its group, after an iteration of the training or a validation.

    Args:
        signals: Their numbers.
        iteration: After which iteration of the training, counted from 1; in the first validation if None.
        group: Whether the group gets them.
        rank: The process of a distributed training that sends.
    """

    def __init__(self, signals, iteration=None, group=False, rank=0):
        self.signals, self.iteration, self.group, self.rank = signals, iteration, group, rank

    def after_train_iter(self, runner, *args, **kwargs):
        if runner.iter + 1 == self.iteration and runner.rank == self.rank:
            self._send()

    def after_val_iter(self, runner, *args, **kwargs):
        if self.iteration is None:
            self._send()

    def _send(self):
        for signum in self.signals:
            os.killpg(0, signum) if self.group else os.kill(os.getpid(), signum)


def train_and_be_signalled(work_dir: Path, workers: int, signum: int, iteration: int) -> None:
    """Train in a process group that gets a signal, its loader processes too."""
    os.setsid()
    cfg = config(work_dir, workers=workers)
    cfg.custom_hooks.append(dict(type='ToySignals', signals=[signum], iteration=iteration, group=True))
    train(cfg, 'auto')


def train_as_rank(work_dir: Path, rank: int, port: int, by_epoch: bool, stop_at: int | None) -> None:
    """Train as one of two processes; the second gets SIGTERM after an iteration."""
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2', MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port)
    )
    cfg = config(work_dir, by_epoch)
    cfg.launcher = 'pytorch'
    cfg.sync_bn = 'torch'  # else each process validates with statistics of its own, and one's are saved
    cfg.env_cfg = dict()
    if stop_at is not None:
        cfg.custom_hooks.append(dict(type='ToySignals', signals=[int(signal.SIGTERM)], iteration=stop_at, rank=1))
    make_resumable(cfg)
    resume(cfg, 'auto')
    runner = cpu_runner(cfg, Runner)
    try:
        runner.train()
    finally:
        shutdown_distributed(runner)
