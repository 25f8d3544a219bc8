"""Hooks that MMEngine lacks."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer
from mmengine.runner import EpochBasedTrainLoop, Runner
from tqdm import tqdm

from emo_mm.registry import HOOKS

_HISTORY_KEYS = ('log_history', 'count_history')


@HOOKS.register_module()
class PlainCheckpointHook(Hook):
    """Write checkpoints of plain data only: tensors, numbers, strings and containers.

    MMEngine stores its logged scalars as objects. torch then refuses the file by default (``weights_only``), and the
    classic mmengine cannot resume what it saved. As plain data the file loads everywhere without running code.
    """

    priority = 'VERY_LOW'  # after every hook that adds to the checkpoint

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Replace objects by plain data."""
        for key in set(checkpoint) - {'state_dict', 'ema_state_dict', 'optimizer'}:
            checkpoint[key] = to_plain(checkpoint[key])

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Give MMEngine its objects back before it resumes from them."""
        scalars = checkpoint.get('message_hub', {}).get('log_scalars', {})
        for name, value in scalars.items():
            if isinstance(value, Mapping) and set(value) == {*_HISTORY_KEYS, 'max_length'}:
                history, counts = (value[key].numpy() for key in _HISTORY_KEYS)
                scalars[name] = HistoryBuffer(history, counts, max_length=value['max_length'])


def to_plain(value: Any) -> Any:
    """Return nested data with MMEngine's and NumPy's objects replaced by dicts, tensors and numbers."""
    if isinstance(value, HistoryBuffer):
        history, counts = value.data
        return {
            'log_history': torch.tensor(np.asarray(history, dtype=np.float64)),
            'count_history': torch.tensor(np.asarray(counts, dtype=np.float64)),
            'max_length': value.max_length,
        }
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    if isinstance(value, OrderedDict):
        return OrderedDict((k, to_plain(v)) for k, v in value.items())
    if isinstance(value, Mapping):
        return {k: to_plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set)):
        return type(value)(to_plain(v) for v in value)
    return value


@HOOKS.register_module()
class ProgressHook(Hook):
    """Show a progress bar over the whole training, with its loss and the time left.

    Where there is no terminal it is a line of text every ``seconds`` seconds.

    Args:
        seconds: Least time between two lines where the output is not a terminal.
    """

    priority = 'LOW'

    def __init__(self, seconds: float = 15.0) -> None:
        self.seconds = seconds
        self.bar: tqdm | None = None

    def before_train(self, runner: Runner) -> None:
        """Open the bar at the iteration that training starts from."""
        if is_main_process():
            interval = 0.1 if sys.stderr.isatty() else self.seconds
            self.bar = tqdm(
                total=runner.max_iters,
                initial=runner.iter,
                desc='train',
                unit='it',
                mininterval=interval,
                maxinterval=interval,
                dynamic_ncols=True,
            )

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Advance by one step."""
        if self.bar is None:
            return
        if outputs and 'loss' in outputs:
            postfix = {'loss': f'{outputs["loss"].item():.3f}'}
            if isinstance(runner.train_loop, EpochBasedTrainLoop):
                postfix['epoch'] = f'{runner.epoch + 1}/{runner.max_epochs}'
            self.bar.set_postfix(postfix, refresh=False)
        self.bar.update()

    def after_train(self, runner: Runner) -> None:
        """Close the bar."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None
