"""The loss over the validation images, beside that of the training."""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from functools import partial
from typing import Any

import torch
from mmengine.dist import all_gather_object
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer
from mmengine.runner import Runner, autocast, set_random_seed
from torch.utils.data import DataLoader

from emo_mm.engine.resume.random_state import unchanged_random_state
from emo_mm.engine.resume.signals import start_worker
from emo_mm.errors import UserError
from emo_mm.registry import HOOKS
from emo_mm.weights.loading import unwrapped

_SEED = 0  # of heads that choose at random what their loss is of


@HOOKS.register_module()
class ValLossHook(Hook):
    """Compute the loss over the validation images after each validation, with the weights that were validated.

    The mean over the images is logged with the metrics as ``val_loss``, its parts with ``val_`` before their names, and
    ``iteration`` tells which iteration they are of. The metrics that other hooks watch stay as they are.

    The training does not notice: the network is in evaluation mode, and the random number generators are put back.
    They begin at the same numbers each time, so that the same weights have the same loss.

    Args:
        dataloader: Config of a loader of the validation images, with their truth resized along.
        truth: Where its data samples hold the truth: names of attributes, with dots between them. None if that is not
            to be checked.
    """

    priority = 'ABOVE_NORMAL'  # before EMAHook puts the trained weights back, and before LoggerHook

    def __init__(self, dataloader: dict[str, Any], truth: str | None = None) -> None:
        self.dataloader = dataloader
        self.truth = truth
        self._loader: DataLoader | None = None
        self._preprocessor: Any = None

    def before_train(self, runner: Runner) -> None:
        """Make the loader.

        Raises:
            UserError: If the data hold no truth.
        """
        with unchanged_random_state():
            loader = runner.build_dataloader(self.dataloader, seed=runner.seed)
            self._check_truth(runner, loader.dataset)
        loader.worker_init_fn = partial(start_worker, init=loader.worker_init_fn)
        self._loader = loader
        self._preprocessor = loss_preprocessor(unwrapped(runner.model).data_preprocessor)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Log the means, with the metrics."""
        if self._loader is None:  # a validation without a training
            return
        with unchanged_random_state():
            set_random_seed(_SEED)
            means = self._means(runner, self._loader)
        if not all(map(math.isfinite, means.values())):
            runner.logger.warning(f'the loss over the validation images is not finite: {means}')
        for name, value in {**means, 'iteration': runner.iter}.items():
            # Without those before: of names with "loss" MMEngine logs the mean of the last ones.
            runner.message_hub.log_scalars[f'val/{name}'] = HistoryBuffer([value], [1])

    @torch.no_grad()
    def _means(self, runner: Runner, loader: DataLoader) -> dict[str, float]:
        """Return the mean of each loss over the images of all processes."""
        model: Any = unwrapped(runner.model)
        model.eval()
        leave_if_asked = getattr(runner.train_loop, 'leave_validation_if_asked', lambda: None)
        sums: dict[str, float] = defaultdict(float)
        images = 0
        for batch in loader:
            number = len(batch['inputs'])
            with autocast(enabled=getattr(runner.val_loop, 'fp16', False)):
                losses = model(**self._preprocessor(batch, True), mode='loss')
            for name, value in model.parse_losses(losses)[1].items():
                if 'loss' in name:  # as MMEngine tells them from accuracies and the like
                    sums[f'val_{name}'] += float(value) * number
            images += number
            leave_if_asked()
        every = all_gather_object((dict(sums), images))
        total = sum(number for _, number in every)
        return {name: sum(one.get(name, 0.0) for one, _ in every) / total for name in sums}

    def _check_truth(self, runner: Runner, dataset: Any) -> None:
        if self.truth is None or not len(dataset):
            return
        found = dataset[0]['data_samples']
        for name in self.truth.split('.'):
            found = getattr(found, name, None)
        if found is None:
            raise UserError(
                f'--val-loss: the validation data of {runner.cfg.filename} hold no truth to compute a loss with '
                f'({self.truth} is missing); leave the flag out'
            )


def loss_preprocessor(preprocessor: Any) -> Any:
    """Return a copy of a data preprocessor that prepares batches for a loss, without augmenting them.

    Called as in training it pads masks and maps along with the images. Images are padded as in a test.

    Args:
        preprocessor: One of mmdet, mmseg or mmpretrain.
    """
    plain = copy.deepcopy(preprocessor)
    if hasattr(plain, 'batch_augments'):
        plain.batch_augments = None
    if hasattr(plain, 'size_divisor'):  # mmseg's, whose training pads to the size of a crop
        padding = plain.test_cfg or {}
        plain.size = padding.get('size')
        plain.size_divisor = None if plain.size else padding.get('size_divisor', 1)
    return plain
