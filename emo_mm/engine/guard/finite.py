"""Stops a training whose numbers are no longer finite, before they reach the weights."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from mmengine.dist import all_gather_object, all_reduce, get_comm_device, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapperDict
from torch import Tensor, nn

from emo_mm.data.splits import count, shortlist
from emo_mm.engine.guard.finite_search import all_finite, batch_files, search_backward, search_forward
from emo_mm.engine.resume.checkpoints import POINTER
from emo_mm.engine.resume.random_state import random_state, set_random_state, unchanged_random_state
from emo_mm.errors import UserError
from emo_mm.registry import HOOKS
from emo_mm.weights.loading import unwrapped

if TYPE_CHECKING:
    from mmengine.runner import Runner
    from torch.optim import Optimizer


@dataclass
class _Forward:
    """One forward pass of an iteration: what it needs to be done again, and the losses that it gave."""

    args: tuple
    kwargs: dict[str, Any]
    random_state: dict[str, Any]
    losses: dict[str, list[Tensor]]


@HOOKS.register_module()
class FiniteHook(Hook):
    """Looks at the losses and gradients of every step before the optimizer takes it.

    Where one is not finite the optimizer has nothing to do with it: the gradients are dropped, the buffers (BatchNorm
    statistics) are put back to what they were before the forward pass, and training stops with one message. It names
    the iteration, the files of the batch and the first module whose output is not finite; to find that one, the forward
    pass is done again with the same random numbers. Of several processes all stop or skip together.

    Under mixed precision the loss scaler deals with gradients that overflow because they are scaled. They are a fault
    where they overflow at a scale of 1 as well.

    Args:
        skip: How many such steps to leave out before the next one stops the training.
    """

    priority = 'HIGHEST'  # before the hooks that average or log what a bad step left

    def __init__(self, skip: int = 0) -> None:
        self.skip = skip
        self.skipped: list[int] = []  # iterations, counted from 1
        self._forwards: list[_Forward] = []
        self._seen = self._dropped = False  # in this iteration
        self._scale = float('inf')
        self._buffers: list[Tensor] = []
        self._kept: list[Tensor] = []
        self._handles: list[Any] = []

    def before_train(self, runner: Runner) -> None:
        """Attach to the model and its optimizers."""
        self._buffers = [buffer for buffer in runner.model.buffers() if buffer.numel()]
        self._handles = [
            runner.model.register_forward_pre_hook(self._before_forward, with_kwargs=True),
            runner.model.register_forward_hook(self._after_forward),
        ]
        for optimizer in _optimizers(runner):
            self._handles.append(optimizer.register_step_pre_hook(partial(self._before_step, runner)))

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Forget the last iteration."""
        self._forwards = []
        self._seen = self._dropped = False

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Look at iterations that made no step: gradients are still being summed up, or the loss scaler refused it."""
        if not self._seen:
            self._look(runner, [p for o in _optimizers(runner) for p in _parameters(o)])
        scaler = getattr(runner.optim_wrapper, 'loss_scaler', None)
        if scaler is not None and scaler.is_enabled() and not self._dropped:
            scale = scaler.get_scale()
            if scale < min(self._scale, 1):
                self._drop(runner, in_loss=False)
            self._scale = scale
        self._forwards = []
        if self._dropped and outputs is not None:
            outputs.clear()  # a step that was not taken has no part in the means that are logged

    def after_train(self, runner: Runner) -> None:
        """Tell what was skipped, and let go of the model."""
        for handle in self._handles:
            handle.remove()
        if self.skipped:
            steps = count(len(self.skipped), 'step')
            runner.logger.warning(
                f'{steps} of {runner.iter} skipped, as the loss or a gradient was not finite: iterations '
                f'{shortlist(self.skipped)}'
            )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Refuse to save weights that the last step, though its gradients were finite, made infinite.

        Raises:
            UserError: If a weight or a BatchNorm statistic is not finite.
        """
        weights = {
            name: value
            for name, value in unwrapped(runner.model).state_dict().items()
            if value.is_floating_point() and value.numel()
        }
        parameters = {name for name, _ in unwrapped(runner.model).named_parameters()}
        bad = [
            name
            for name, value in weights.items()
            if (name in parameters or name.endswith(('running_mean', 'running_var'))) and not all_finite([value])
        ]
        if bad:
            raise UserError(
                f'iteration {runner.iter + 1}: weights are not finite after the step and are not saved: '
                f'{shortlist(bad, 3)}. {_newest_checkpoint(runner)} The learning rate may be too high (--lr)'
            )

    def _before_forward(self, model: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        if not model.training:
            return
        if not self._forwards and self._buffers:
            # One copy of all: hundreds of small ones would cost more than their bytes.
            self._kept = [torch.cat([b.detach().flatten() for b in same]) for same in _by_type(self._buffers)]
        self._forwards.append(_Forward(args, kwargs, random_state(), {}))

    def _after_forward(self, model: nn.Module, args: tuple, output: Any) -> None:
        if not model.training or not self._forwards or not isinstance(output, dict):
            return
        for name, value in output.items():
            if 'loss' in name:
                values = value if isinstance(value, (list, tuple)) else [value]
                self._forwards[-1].losses[name] = [v.detach() for v in values if isinstance(v, Tensor) and v.numel()]

    def _before_step(self, runner: Runner, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        # Fused optimizers get scaled gradients, and what the loss scaler found in them.
        scaled = getattr(optimizer, 'found_inf', None) is not None
        self._look(runner, [] if scaled else _parameters(optimizer))

    def _look(self, runner: Runner, parameters: list[nn.Parameter]) -> None:
        self._seen = True
        losses = [v for forward in self._forwards for values in forward.losses.values() for v in values]
        gradients = [p.grad for p in parameters if p.grad is not None]
        flags = [not_finite(losses), not_finite(gradients)]
        if get_world_size() > 1:
            together = torch.tensor(flags, dtype=torch.float32, device=get_comm_device())
            all_reduce(together, 'max')
            flags = [bool(flag) for flag in together.tolist()]
        in_loss, in_gradient = flags
        if in_loss or in_gradient:
            self._drop(runner, in_loss)

    def _drop(self, runner: Runner, in_loss: bool) -> None:
        """Undo what the iteration did, and count or stop.

        Raises:
            UserError: If no more steps may be skipped.
        """
        if self._dropped:  # by another optimizer of the same iteration
            _drop_gradients(runner)
            return
        self._dropped = True
        stops = len(self.skipped) >= self.skip
        text = f'iteration {runner.iter + 1}: {self._describe(runner, in_loss)}'
        self._restore_buffers()
        _drop_gradients(runner)
        if not stops:
            self.skipped.append(runner.iter + 1)
            runner.logger.warning(f'step {len(self.skipped)} of at most {self.skip} skipped. {text}')
            return
        before = f'{count(len(self.skipped), "step")} had been skipped before it. ' if self.skipped else ''
        error = UserError(
            f'{text} {before}The step was not taken: weights, BatchNorm statistics and optimizer are as they were. '
            f'{_newest_checkpoint(runner)} Often the learning rate is too high (--lr), or a label is wrong; '
            '--skip-non-finite N leaves up to N such steps out'
        )
        if get_rank() == 0:
            raise error
        # One message is enough. A launcher ends the others as soon as one process is gone, so the first speaks first.
        time.sleep(2)
        sys.exit(1)

    def _describe(self, runner: Runner, in_loss: bool) -> str:
        """Say what is not finite, where that began, and in which files; of several processes for the first with it."""
        model, forward = unwrapped(runner.model), self._forwards[-1] if self._forwards else None
        bad = {
            name: values for each in self._forwards for name, values in each.losses.items() if not all_finite(values)
        }
        if in_loss:
            what = ', '.join(f'{name} {float(sum(v.sum() for v in values))}' for name, values in bad.items())
            what = f'the loss is not finite ({what}).'
        else:
            what = 'the loss is finite, but its gradient is not.'
        if forward is None:
            return what
        search = search_forward if in_loss else search_backward
        context = partial(runner.optim_wrapper.optim_context, model)
        with unchanged_random_state():
            set_random_state(forward.random_state)
            origin, samples = search(model, forward.args, forward.kwargs, context)
        files = batch_files(forward.args, forward.kwargs)
        text = f'{what} {origin} '
        if samples and len(samples) < len(files):
            text += f'It comes from {shortlist([files[i] for i in samples])}. '
        text += f'Batch: {shortlist(files, 64)}.' if files else 'The batch names no files.'
        every = all_gather_object((bool(bad) or not in_loss, text))
        return next((each for is_bad, each in every if is_bad), text)

    def _restore_buffers(self) -> None:
        with torch.no_grad():
            for same, kept in zip(_by_type(self._buffers), self._kept, strict=True):
                for buffer, values in zip(same, kept.split([b.numel() for b in same]), strict=True):
                    buffer.copy_(values.view_as(buffer))


def not_finite(tensors: list[Tensor]) -> bool:
    """Tell whether any number of some tensors is infinite or not a number.

    The norms tell at the cost of reading the tensors once, all in one call and one moment of waiting for a GPU. Those
    of finite numbers may overflow as well: only then each number is looked at.
    """
    dense = [t.coalesce().values() if t.is_sparse else t for t in tensors]
    dense = [t for t in dense if t.numel()]
    if not dense:
        return False
    norms = torch._foreach_norm(dense)
    if torch.stack([norm.float().to(norms[0].device) for norm in norms]).isfinite().all():
        return False
    return not all_finite(dense)


def _optimizers(runner: Runner) -> list[Optimizer]:
    wrapper = runner.optim_wrapper
    if isinstance(wrapper, OptimWrapperDict):
        return [part.optimizer for part in wrapper.optim_wrappers.values()]
    return [wrapper.optimizer]


def _parameters(optimizer: Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group['params']]


def _drop_gradients(runner: Runner) -> None:
    for optimizer in _optimizers(runner):
        optimizer.zero_grad(set_to_none=True)  # an optimizer passes over what has no gradient, its state included


def _by_type(tensors: list[Tensor]) -> list[list[Tensor]]:
    groups: dict[Any, list[Tensor]] = {}
    for tensor in tensors:
        groups.setdefault((tensor.dtype, tensor.device), []).append(tensor)
    return list(groups.values())


def _newest_checkpoint(runner: Runner) -> str:
    pointer = Path(runner.work_dir) / POINTER
    if not pointer.is_file():
        return 'There is no checkpoint yet.'
    return f'The newest checkpoint is {pointer.read_text().strip()} (go on from it with --resume).'
