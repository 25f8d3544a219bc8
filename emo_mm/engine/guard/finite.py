"""A training whose numbers are no longer finite stops before they reach the weights."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
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
    losses: dict[str, list[Tensor]] = field(default_factory=dict)

    def not_finite(self) -> dict[str, list[Tensor]]:
        """Return the losses that are not finite."""
        return {name: values for name, values in self.losses.items() if not all_finite(values)}


@dataclass
class _Iteration:
    """What is known of the present iteration.

    Attributes:
        forwards: Its forward passes in training mode so far.
        checked: Whether its losses and gradients were looked at.
        dropped: Whether its step was found to be bad, and dropped.
    """

    forwards: list[_Forward] = field(default_factory=list)
    checked: bool = False
    dropped: bool = False


class _Buffers:
    """The buffers of a model, such as BatchNorm statistics, which can be put back to what they were.

    One copy is kept of all of a type: hundreds of small ones would cost more than their bytes.
    """

    def __init__(self, model: nn.Module) -> None:
        self._groups = _by_type([buffer for buffer in model.buffers() if buffer.numel()])
        self._kept: list[Tensor] = []

    def keep(self) -> None:
        """Note what the buffers hold."""
        self._kept = [torch.cat([b.detach().flatten() for b in group]) for group in self._groups]

    def restore(self) -> None:
        """Put the buffers back to what they held."""
        with torch.no_grad():
            for group, kept in zip(self._groups, self._kept, strict=True):
                for buffer, values in zip(group, kept.split([b.numel() for b in group]), strict=True):
                    buffer.copy_(values.view_as(buffer))


@HOOKS.register_module()
class FiniteHook(Hook):
    """Check the losses and gradients of every step before the optimizer takes it.

    Where one is not finite the optimizer has nothing to do with it: the gradients are dropped, the buffers (BatchNorm
    statistics) are put back to what they were before the forward pass, and training stops with one message. It names
    the iteration, the files of the batch and the first module whose output is not finite; to find that one, the forward
    pass is done again with the same random numbers. Of several processes all stop or skip together.

    Under mixed precision the loss scaler deals with gradients that overflow because they are scaled. They are an error
    only if they overflow at a scale of 1 as well.

    Args:
        skip: How many such steps to skip before the next one stops the training.

    Attributes:
        skipped: The iterations whose steps were skipped, counted from 1.
    """

    priority = 'HIGHEST'  # before the hooks that average or log what a bad step left

    def __init__(self, skip: int = 0) -> None:
        self.skip = skip
        self.skipped: list[int] = []
        self._iteration = _Iteration()
        self._scale = float('inf')  # of the losses, after the last iteration
        self._buffers = _Buffers(nn.Module())
        self._handles: list[Any] = []

    def before_train(self, runner: Runner) -> None:
        """Attach to the model and its optimizers."""
        self._buffers = _Buffers(runner.model)
        self._handles = [
            runner.model.register_forward_pre_hook(self._before_forward, with_kwargs=True),
            runner.model.register_forward_hook(self._after_forward),
        ]
        for optimizer in _optimizers(runner):
            self._handles.append(optimizer.register_step_pre_hook(partial(self._before_step, runner)))

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Forget the last iteration."""
        self._iteration = _Iteration()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Check iterations that made no step: gradients are still being summed up, or the loss scaler refused it."""
        iteration = self._iteration
        if not iteration.checked:
            self._check(runner, [p for o in _optimizers(runner) for p in _parameters(o)])
        scaler = getattr(runner.optim_wrapper, 'loss_scaler', None)
        if scaler is not None and scaler.is_enabled() and not iteration.dropped:
            scale = scaler.get_scale()
            if scale < min(self._scale, 1):
                self._drop(runner, in_loss=False)
            self._scale = scale
        iteration.forwards.clear()  # they hold the batch
        if iteration.dropped and outputs is not None:
            outputs.clear()  # a step that was not taken has no part in the means that are logged

    def after_train(self, runner: Runner) -> None:
        """Log what was skipped, and let go of the model."""
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
        bad = _weights_not_finite(unwrapped(runner.model))
        if bad:
            raise UserError(
                f'iteration {runner.iter + 1}: weights are not finite after the step and are not saved: '
                f'{shortlist(bad, 3)}. {_newest_checkpoint(runner)} The learning rate may be too high (--lr)'
            )

    def _before_forward(self, model: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        if not model.training:
            return
        if not self._iteration.forwards:
            self._buffers.keep()
        self._iteration.forwards.append(_Forward(args, kwargs, random_state()))

    def _after_forward(self, model: nn.Module, args: tuple, output: Any) -> None:
        if not model.training or not self._iteration.forwards or not isinstance(output, dict):
            return
        losses = self._iteration.forwards[-1].losses
        for name, value in output.items():
            if 'loss' in name:
                values = value if isinstance(value, (list, tuple)) else [value]
                losses[name] = [v.detach() for v in values if isinstance(v, Tensor) and v.numel()]

    def _before_step(self, runner: Runner, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        # Fused optimizers get scaled gradients, and what the loss scaler found in them.
        scaled = getattr(optimizer, 'found_inf', None) is not None
        self._check(runner, [] if scaled else _parameters(optimizer))

    def _check(self, runner: Runner, parameters: list[nn.Parameter]) -> None:
        """Drop the step if a loss of the iteration or a gradient is not finite, in any of the processes."""
        self._iteration.checked = True
        losses = [v for forward in self._iteration.forwards for values in forward.losses.values() for v in values]
        gradients = [p.grad for p in parameters if p.grad is not None]
        in_loss, in_gradient = _in_any_process([not_finite(losses), not_finite(gradients)])
        if in_loss or in_gradient:
            self._drop(runner, in_loss)

    def _drop(self, runner: Runner, in_loss: bool) -> None:
        """Undo what the iteration did, and count or stop.

        Raises:
            UserError: If no more steps may be skipped.
        """
        if self._iteration.dropped:  # by another optimizer of the same iteration
            _drop_gradients(runner)
            return
        self._iteration.dropped = True
        text = f'iteration {runner.iter + 1}: {_description(runner, self._iteration.forwards, in_loss)}'
        self._buffers.restore()
        _drop_gradients(runner)
        if len(self.skipped) < self.skip:
            self.skipped.append(runner.iter + 1)
            runner.logger.warning(f'step {len(self.skipped)} of at most {self.skip} skipped. {text}')
            return
        before = f'{count(len(self.skipped), "step")} had been skipped before it. ' if self.skipped else ''
        error = UserError(
            f'{text} {before}The step was not taken: weights, BatchNorm statistics and optimizer are as they were. '
            f'{_newest_checkpoint(runner)} Often the learning rate is too high (--lr), or a label is wrong; '
            '--skip-non-finite N skips up to N such steps'
        )
        if get_rank() == 0:
            raise error
        # One message is enough. A launcher ends the others as soon as one process is gone, so the first speaks first.
        time.sleep(2)
        sys.exit(1)


def _description(runner: Runner, forwards: list[_Forward], in_loss: bool) -> str:
    """Say what is not finite, where that began, and in which files; of several processes for the first with it."""
    bad = {name: values for forward in forwards for name, values in forward.not_finite().items()}
    if in_loss:
        what = ', '.join(f'{name} {float(sum(v.sum() for v in values))}' for name, values in bad.items())
        what = f'the loss is not finite ({what}).'
    else:
        what = 'the loss is finite, but its gradient is not.'
    if not forwards:
        return what
    model, forward = unwrapped(runner.model), forwards[-1]
    search = search_forward if in_loss else search_backward
    context = partial(runner.optim_wrapper.optim_context, model)
    with unchanged_random_state():
        set_random_state(forward.random_state)
        origin, samples = search(model, forward.args, forward.kwargs, context)
    text = f'{what} {origin} {_files(batch_files(forward.args, forward.kwargs), samples)}'
    every = all_gather_object((bool(bad) or not in_loss, text))
    return next((each for is_bad, each in every if is_bad), text)


def _files(files: list[str], samples: list[int]) -> str:
    """Say which files the batch is of, and which of them the given samples are."""
    if not files:
        return 'The batch names no files.'
    batch = f'Batch: {shortlist(files, 64)}.'
    if samples and len(samples) < len(files):
        return f'It comes from {shortlist([files[i] for i in samples])}. {batch}'
    return batch


def _in_any_process(flags: list[bool]) -> list[bool]:
    """Return for each flag whether it is set in any process of the training."""
    if get_world_size() == 1:
        return flags
    together = torch.tensor(flags, dtype=torch.float32, device=get_comm_device())
    all_reduce(together, 'max')
    return [bool(flag) for flag in together.tolist()]


def _weights_not_finite(model: nn.Module) -> list[str]:
    """Return the names of the parameters and BatchNorm statistics that hold a number which is not finite."""
    parameters = {name for name, _ in model.named_parameters()}
    return [
        name
        for name, value in model.state_dict().items()
        if (name in parameters or name.endswith(('running_mean', 'running_var')))
        and value.is_floating_point()
        and value.numel()
        and not all_finite([value])
    ]


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
        optimizer.zero_grad(set_to_none=True)  # an optimizer skips what has no gradient, its state included


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
