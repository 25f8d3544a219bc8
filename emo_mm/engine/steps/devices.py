"""What runs where: processes, mixed precision, the optimizer's kernels."""

from __future__ import annotations

from emo_mm.config.edits import Change, Edit
from emo_mm.config.view import ConfigView
from emo_mm.engine.options import RunOptions, TrainOptions
from emo_mm.errors import UserError


def launcher(view: ConfigView, options: RunOptions) -> Change:
    """Take how the processes of a run are started."""
    return Change((Edit('launcher', options.launcher),))


def device(view: ConfigView, options: TrainOptions) -> Change:
    """Check that the device that was asked for is the one that MMEngine will take.

    Raises:
        UserError: If it is not there, or PyTorch was loaded before it was chosen.
    """
    import torch

    if options.device is None:
        return Change()
    on_gpu = torch.cuda.is_available()
    if options.device == 'cpu' and on_gpu:
        raise UserError(
            '--device cpu: PyTorch sees a GPU already; start Python with CUDA_VISIBLE_DEVICES= set to nothing'
        )
    if options.device != 'cpu' and not on_gpu:
        raise UserError(f'--device {options.device}: PyTorch finds no such GPU; use --device cpu or leave the flag out')
    return Change()


def precision(view: ConfigView, options: TrainOptions) -> Change:
    """Train in mixed precision if asked for, and in float32 where a config of mixed precision finds no GPU.

    Raises:
        UserError: If mixed precision is asked for on a CPU.
    """
    import torch

    wrapper, on_gpu = view.part('optim_wrapper'), torch.cuda.is_available()
    if options.amp and not on_gpu:
        raise UserError('--amp needs a GPU: on a CPU mixed precision is slower than float32; leave the flag out')
    if options.amp:
        return Change(wrapper.edit(type='AmpOptimWrapper', loss_scale='dynamic'))
    if wrapper.node.get('type') != 'AmpOptimWrapper' or on_gpu:
        return Change()
    edits = (*wrapper.edit(type='OptimWrapper'), *wrapper.remove('loss_scale', 'dtype', 'use_fsdp'))
    return Change(edits, ('there is no GPU, so this trains in float32 instead of mixed precision',))


def fused_optimizer(view: ConfigView, options: TrainOptions) -> Change:
    """Let Adam and AdamW do a step in one kernel for each parameter: the same step with fewer calls."""
    optimizer = view.part('optim_wrapper.optimizer')
    if optimizer.node.get('type') not in ('Adam', 'AdamW') or 'fused' in optimizer.node:
        return Change()
    return Change(optimizer.edit(fused=True))
