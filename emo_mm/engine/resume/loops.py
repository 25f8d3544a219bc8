"""MMEngine's training loops, which can be stopped between any two iterations and gone on with from there."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import torch
from mmengine.dist import all_reduce, is_distributed, is_main_process
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch.utils.data import DataLoader

from emo_mm.engine.resume.checkpoints import SafeCheckpointHook
from emo_mm.engine.resume.random_state import unchanged_random_state
from emo_mm.engine.resume.signals import StopRequest, TrainingStopped, start_worker, stop_requests
from emo_mm.errors import UserError
from emo_mm.registry import LOOPS

_SAVE = 1  # asks for a checkpoint without a stop; the numbers of the signals that stop are higher
_LOADER_SETTINGS = (
    'dataset', 'num_workers', 'collate_fn', 'pin_memory', 'timeout', 'worker_init_fn', 'multiprocessing_context',
    'generator', 'prefetch_factor', 'persistent_workers',
)  # fmt: skip


class _StoppedInValidation(Exception):  # noqa: N818, no error
    """Leaves a validation early; the training state is that before it."""


class _StoppableLoop(BaseLoop):
    """What both loops share.

    Attributes:
        stop_request: What signals ask for.
    """

    stop_request: StopRequest
    dataloader: DataLoader
    _first_batch = 0

    def resume_at(self, batches_done: int, epoch_batches: int) -> None:
        """Prepare to continue in the middle of an epoch.

        Args:
            batches_done: How many batches of it had been trained on when the checkpoint was written.
            epoch_batches: How many it had.
        """
        self._first_batch = batches_done
        if batches_done and epoch_batches != len(self.dataloader):
            self._first_batch = 0
            self.runner.logger.warning(
                f'the epoch had {epoch_batches} batches when the checkpoint was written and has '
                f'{len(self.dataloader)} now: it starts over'
            )

    def validation_due(self) -> bool:
        """Whether a validation follows the last step that was done."""
        by_epoch = isinstance(self, EpochBasedTrainLoop)
        done, last = (self.epoch, self.max_epochs) if by_epoch else (self.iter, self.max_iters)
        due = done >= max(self.val_begin, 1) and (done % self.val_interval == 0 or done == last)
        return due and self.runner.val_loop is not None

    def run(self) -> Any:
        """Train; where a signal asks for it, save between two iterations and leave.

        Raises:
            TrainingStopped: If a signal stopped the training.
        """
        self.runner.register_hook(_StopValidationHook(), priority='LOWEST')
        with stop_requests() as self.stop_request:
            for loop in (self, self.runner.val_loop):
                if loop is not None:
                    loader = loop.dataloader
                    loader.worker_init_fn = partial(start_worker, init=loader.worker_init_fn)
            try:
                return self._train()
            except _StoppedInValidation:
                for hook in self.runner.hooks:
                    if isinstance(hook, EMAHook):
                        hook.after_val_epoch(self.runner)  # the trained weights, in the place of the averaged ones
                self._stop(self.stop_request.signum)

    def leave_validation_if_asked(self) -> None:
        """Leave a validation if a signal has come; the processes of a distributed run finish it together."""
        if self.stop_request.signum and not is_distributed():
            raise _StoppedInValidation

    def _train(self) -> Any:
        raise NotImplementedError

    def _between_iterations(self) -> None:
        wrapper = self.runner.optim_wrapper
        if hasattr(wrapper, 'should_update') and not wrapper.should_update():
            return  # gradients are being accumulated, and no checkpoint holds them
        request = self._agreed_request()
        if request == _SAVE:
            self.runner.logger.warning(f'{self.runner.work_dir} has vanished; it is made again, with a checkpoint')
            (Path(self.runner._log_dir) / 'vis_data').mkdir(parents=True, exist_ok=True)
            self._checkpoint_hook().save_now(self.runner)
        elif request:
            self._stop(request)

    def _agreed_request(self) -> int:
        """Return the highest request of all processes: the number of a signal, ``_SAVE`` or 0."""
        request = self.stop_request.signum
        if not request and is_main_process() and not Path(self.runner.work_dir).is_dir():
            request = _SAVE
        if not is_distributed():
            return request
        highest = torch.tensor(request)
        all_reduce(highest, op='max')
        return int(highest)

    def _stop(self, signum: int) -> NoReturn:
        path = self._checkpoint_hook().save_now(self.runner)
        self.runner.logger.warning(f'stopped at iteration {self.iter}; saved {path}; continue with --resume')
        raise TrainingStopped(signum)

    def _checkpoint_hook(self) -> SafeCheckpointHook:
        return next(hook for hook in self.runner.hooks if isinstance(hook, SafeCheckpointHook))


class _StopValidationHook(Hook):
    """Leaves a validation when a signal has come."""

    def after_val_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        runner.train_loop.leave_validation_if_asked()


@LOOPS.register_module()
class ResumableEpochLoop(_StoppableLoop, EpochBasedTrainLoop):
    """MMEngine's loop over epochs; a resumed one begins in the middle of the epoch where it was stopped."""

    def _train(self) -> Any:
        return EpochBasedTrainLoop.run(self)

    def run_epoch(self) -> None:
        """Train on the batches of an epoch, or after a resumption on those that are left of it."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        first, self._first_batch = self._first_batch, 0
        loader = _reordered(self.dataloader, self.dataloader.batch_sampler, first) if first else self.dataloader
        for idx, data_batch in enumerate(_begin(loader), first):
            self.run_iter(idx, data_batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def run_iter(self, idx: int, data_batch: Any) -> None:
        """Train on a batch."""
        super().run_iter(idx, data_batch)
        self._between_iterations()


@LOOPS.register_module()
class ResumableIterLoop(_StoppableLoop, IterBasedTrainLoop):
    """MMEngine's loop over iterations; a resumed one continues with the next batch and loads none of those before it.

    The settings are those of MMEngine's loop.
    """

    def __init__(self, runner: Runner, dataloader: DataLoader | dict, *args: Any, **kwargs: Any) -> None:
        BaseLoop.__init__(self, runner, dataloader)  # builds the loader
        loader = self.dataloader
        # The classic MMEngine begins to load here, before it is known with which batch.
        super().__init__(runner, _Unread(loader.dataset), *args, **kwargs)
        self.dataloader = loader

    def _train(self) -> Any:
        self.runner.call_hook('before_train')
        self.runner.call_hook('before_train_epoch')
        self.dataloader_iterator = _begin(_reordered(self.dataloader, _endless(self.dataloader), self._iter))
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            self.run_iter(next(self.dataloader_iterator))
            self._decide_current_val_interval()
            if self.validation_due():
                self.runner.val_loop.run()
        self.runner.call_hook('after_train_epoch')
        self.runner.call_hook('after_train')
        return self.runner.model

    def run_iter(self, data_batch: Any) -> None:
        """Train on a batch."""
        super().run_iter(data_batch)
        self._between_iterations()


class _Unread:
    """Stands for a loader where nothing is to be loaded yet."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __iter__(self) -> Iterator[Any]:
        return iter(())


def _begin(loader: DataLoader) -> Iterator[Any]:
    """Begin to load; no random number is drawn, so that a resumed run may begin to load where another did not."""
    with unchanged_random_state():
        return iter(loader)


def _reordered(loader: DataLoader, batches: Any, first: int) -> DataLoader:
    """Return a loader of the same data and settings for other batches (lists of indices), from the ``first`` on."""
    settings = {name: getattr(loader, name) for name in _LOADER_SETTINGS}
    return DataLoader(batch_sampler=itertools.islice(batches, first, None), **settings)


def _endless(loader: DataLoader) -> Iterator[list[int]]:
    """Yield the batches (lists of indices) of a loader, shuffled again at each pass as its sampler does it.

    Raises:
        UserError: If it has none.
    """
    # With a batch sampler of its own the loader's sampler is a mere stand-in.
    batches: Any = loader.batch_sampler
    sampler: Any = loader.sampler if hasattr(loader.sampler, 'set_epoch') else getattr(batches, 'sampler', None)
    for epoch in itertools.count():
        if epoch and hasattr(sampler, 'set_epoch'):
            sampler.set_epoch(epoch)
        empty = True
        for batch in batches:
            empty = False
            yield batch
        if empty:
            raise UserError(
                'the training set has less images than a batch, and drop_last is set: give a smaller --batch-size'
            )
