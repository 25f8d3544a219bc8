"""Checkpoints that survive: complete or not written at all, and with all that an exact resumption needs."""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypedDict

from mmengine.dist import all_gather_object, get_rank, is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import EpochBasedTrainLoop, Runner

from emo_mm.engine.resume.atomic import ATOMIC_BACKEND, AtomicBackend
from emo_mm.engine.resume.random_state import random_state, set_random_state
from emo_mm.errors import UserError
from emo_mm.files import remove_partial_files, write_bytes
from emo_mm.registry import HOOKS

STOPPED_PREFIX = 'stopped_iter_'  # of the name of a checkpoint that a signal asked for
POINTER = 'last_checkpoint'  # the file in which MMEngine notes the newest checkpoint
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


class ResumeState(TypedDict):
    """What a checkpoint holds beside MMEngine's parts, for an exact resumption.

    Attributes:
        saved_at: When it was written, in seconds since 1970.
        batches_done: Batches of the present epoch that are done; 0 where the loop counts iterations.
        epoch_batches: Batches of an epoch.
        validated: Whether the validation that was due has been done.
        random_states: States of the random number generators of each process.
    """

    saved_at: float
    batches_done: int
    epoch_batches: int
    validated: bool
    random_states: list[dict[str, Any]]


def other_processes(before: int, now: int, batch: int | None) -> str:
    """Return the words on a training that goes on with another number of processes.

    Args:
        before: Processes that wrote the checkpoint.
        now: Processes of this run.
        batch: Images in the batch of each process; None where a sampler decides.
    """
    told = f'the checkpoint is of {before} processes and this run has {now}: it continues with other random numbers'
    if batch is not None:
        told += f', a step has {now * batch} images where {before * batch} were with this batch size'
    return f'{told}; the learning rate stays as it was'


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """MMEngine's CheckpointHook, which loses nothing whenever the run dies.

    A checkpoint gets its name once it is complete on the disk, the pointer file follows, and only then are outdated
    ones removed. Beside what MMEngine writes it holds the states of the random number generators, the position within
    the epoch and whether the validation that was due has been done. A validation leaves the generators untouched.

    The settings are those of MMEngine's hook.
    """

    batches_done = 0  # of the present epoch; 0 where the loop counts iterations
    _validated = False
    _resumed: ResumeState | None = None  # from the loading of a checkpoint to the start of the training
    _resume_state: ResumeState | None = None  # of the checkpoint that is being written
    _state_before_validation: dict[str, Any] | None = None  # of the random number generators, during a validation

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Note where to go on."""
        state = checkpoint.get('resume')
        if runner._resume and state is not None:
            self._resumed = state
            if hasattr(runner.train_loop, 'resume_at'):
                runner.train_loop.resume_at(state['batches_done'], state['epoch_batches'])

    def before_train(self, runner: Runner) -> None:
        """Clear what a killed run left half written, and do the validation that it did not come to."""
        self.backend_args = dict(backend=ATOMIC_BACKEND)
        super().before_train(runner)
        self.file_backend = _LateRemoval()
        if is_main_process():
            for folder in {Path(self.out_dir), Path(runner.work_dir)}:
                for path in remove_partial_files(folder):
                    runner.logger.info(f'removed {path}, which a killed run left half written')
        if self._resumed is not None:
            self._go_on(runner, self._resumed)
            self._resumed = None

    def _go_on(self, runner: Runner, state: ResumeState) -> None:
        source = Path(runner._load_from or '')
        if source.parent.resolve() == Path(self.out_dir).resolve():
            self.last_ckpt = str(source)  # written once more if the validation below finds it to be the best
            if is_main_process():
                # The kill may have come between the checkpoint and the pointer, and no further one may follow.
                with _explained(runner, POINTER):
                    write_bytes(Path(runner.work_dir) / POINTER, str(source).encode())
        if len(state['random_states']) == runner.world_size:
            set_random_state(state['random_states'][get_rank()])
        else:
            batch = getattr(runner.train_dataloader, 'batch_size', None)
            runner.logger.warning(other_processes(len(state['random_states']), runner.world_size, batch))
        if not state['validated'] and not state['batches_done']:
            validation_due = getattr(runner.train_loop, 'validation_due', None)
            if validation_due is not None and validation_due():
                runner.val_loop.run()

    def after_train_iter(self, runner: Runner, batch_idx: int, *args: Any, **kwargs: Any) -> None:
        """Save where iterations are counted."""
        self._validated = False
        self.batches_done = batch_idx + 1 if isinstance(runner.train_loop, EpochBasedTrainLoop) else 0
        super().after_train_iter(runner, batch_idx, *args, **kwargs)

    def after_train_epoch(self, runner: Runner) -> None:
        """Save where epochs are counted."""
        self.batches_done = 0
        super().after_train_epoch(runner)

    def before_val(self, runner: Runner) -> None:
        """Keep the random numbers of the training from the validation."""
        self._state_before_validation = random_state()

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float]) -> None:
        """Save the best checkpoint."""
        self._validated = True
        super().after_val_epoch(runner, metrics)

    def after_val(self, runner: Runner) -> None:
        """Continue with the random numbers of the training."""
        if self._state_before_validation is not None:
            set_random_state(self._state_before_validation)
            self._state_before_validation = None

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add what an exact resumption needs, to checkpoints that can be resumed from."""
        if 'optimizer' in checkpoint:
            checkpoint['resume'] = self._resume_state

    def save_now(self, runner: Runner) -> Path:
        """Save a checkpoint between two iterations, which is removed when the next regular one is complete.

        Every process of a distributed run must call this.

        Returns:
            Its path.
        """
        name = f'{STOPPED_PREFIX}{runner.iter}.pth'
        self._write(runner, name, dict(epoch=runner.epoch, iter=runner.iter))
        return Path(self.out_dir) / name

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        outdated = self._outdated(step)
        if self.max_keep_ckpts > 0:
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        self.last_ckpt = str(self._path_of(step))
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        self._write(runner, self._path_of(step).name, meta, outdated)
        if is_main_process():
            for path in [*outdated, *Path(self.out_dir).glob(f'{STOPPED_PREFIX}*.pth')]:
                path.unlink(missing_ok=True)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        # MMEngine removes the former best one first; the backend keeps it until the new one is there. In a copied work
        # directory the former one is that of the original, which is not ours to remove.
        with (
            self.file_backend.removing_at_the_end(Path(self.out_dir)),
            _explained(runner, 'the best checkpoint'),
        ):
            super()._save_best_checkpoint(runner, metrics)

    def _path_of(self, step: int) -> Path:
        return Path(self.out_dir) / self.filename_tmpl.format(step)

    def _outdated(self, step: int) -> list[Path]:
        """Note a step as kept; return the checkpoints that no longer are."""
        if self.max_keep_ckpts <= 0 or (self.keep_ckpt_ids and self.keep_ckpt_ids[-1] == step):
            return []
        full = len(self.keep_ckpt_ids) == self.max_keep_ckpts
        outdated = [self._path_of(self.keep_ckpt_ids[0])] if full else []
        self.keep_ckpt_ids.append(step)  # a deque of that length: the oldest falls out
        return outdated

    def _write(self, runner: Runner, name: str, meta: dict, outdated: Sequence[Path] = ()) -> None:
        """Write a checkpoint and then the pointer to it.

        Args:
            runner: The runner.
            name: Name of its file.
            meta: What MMEngine adds to it.
            outdated: Checkpoints that may be removed if the disk is full, provided that one of those to keep is there.

        Raises:
            UserError: If they cannot be written; all that was there before still is.
        """
        self._resume_state = ResumeState(
            saved_at=time.time(),
            batches_done=self.batches_done,
            epoch_batches=len(runner.train_dataloader),
            validated=self._validated,
            random_states=all_gather_object(self._state_before_validation or random_state()),
        )
        path = Path(self.out_dir) / name
        with _explained(runner, str(path)):
            try:
                self._save(runner, name, meta)
            except OSError as error:
                kept = [self._path_of(step) for step in self.keep_ckpt_ids] if outdated else []
                if error.errno not in _NO_SPACE or not _make_room(outdated, kept):
                    raise
                runner.logger.warning(f'the disk is full: an outdated checkpoint was removed to make room for {name}')
                self._save(runner, name, meta)
            if is_main_process():
                write_bytes(Path(runner.work_dir) / POINTER, str(path).encode())

    def _save(self, runner: Runner, name: str, meta: dict) -> None:
        runner.save_checkpoint(
            self.out_dir,
            name,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
        )


def _make_room(outdated: Sequence[Path], kept: Sequence[Path]) -> bool:
    """Remove outdated checkpoints before their time if one of those to keep is there; tell whether any was removed."""
    present = [path for path in outdated if path.is_file()]
    if not present or not any(path.is_file() for path in kept):
        return False
    for path in present:
        path.unlink()
    return True


@contextlib.contextmanager
def _explained(runner: Runner, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f'{what} cannot be written to {runner.work_dir}: {error.strerror or error}. The training stops here, since '
            f'all that it did from now on could be lost; the earlier checkpoints are complete. Fix it and '
            f'continue with --resume'
        ) from error


class _LateRemoval(AtomicBackend):
    """A backend that can put off removals."""

    def __init__(self) -> None:
        self._postponed: dict[Path, int] | None = None  # with the number of the file that had the name then

    @contextlib.contextmanager
    def removing_at_the_end(self, folder: Path) -> Iterator[None]:
        """Remove at the end of the context what is asked to be removed inside, if it is in a folder.

        Nothing is removed if the context fails.
        """
        self._postponed = {}
        try:
            yield
            for path, number in self._postponed.items():
                ours = path.parent.resolve() == folder.resolve()
                if ours and path.is_file() and path.stat().st_ino == number:  # not a new one of the same name
                    path.unlink()
        finally:
            self._postponed = None

    def remove(self, filepath: str | Path) -> None:
        """Remove a file, now or at the end of the context."""
        if self._postponed is None:
            super().remove(filepath)
        else:
            self._postponed[Path(filepath)] = Path(filepath).stat().st_ino
