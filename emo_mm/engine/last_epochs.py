"""A plainer augmentation for the end of a training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mmcv.transforms import Compose
from mmengine.hooks import Hook
from mmengine.runner import Runner

from emo_mm.registry import HOOKS


@HOOKS.register_module()
class LastEpochsHook(Hook):
    """Read the training images through another pipeline in the last epochs, such as one without mosaics.

    mmdet's ``PipelineSwitchHook`` counts from the first epoch, so that a training of another length never switches, and
    it changes the outermost data set only, which does nothing where that is a wrapper that repeats images.

    Args:
        pipeline: Steps of the pipeline.
        share: Share of the epochs that are read through it: whole epochs, at least one. A training of one epoch, as one
            that counts iterations is, has no last ones.

    Raises:
        ValueError: If the share is not between 0 and 1.
    """

    def __init__(self, pipeline: Sequence[dict[str, Any]], share: float) -> None:
        if not 0 < share < 1:
            raise ValueError(f'share is {share}; it must be between 0 and 1')
        self.pipeline = list(pipeline)
        self.share = share
        self._switched = False

    def before_train(self, runner: Runner) -> None:
        """Say so where the training has no last epochs."""
        if runner.max_epochs == 1:
            runner.logger.warning('the training has a single epoch: none of it is trained on plainer images')

    def before_train_epoch(self, runner: Runner) -> None:
        """Switch when the first of the last epochs begins, or where a resumed training begins in one of them."""
        if self._switched or runner.epoch < first_of_last(runner.max_epochs, self.share):
            return
        self._switched = True
        loader: Any = runner.train_dataloader
        for dataset in _innermost(loader.dataset):
            dataset.pipeline = Compose(self.pipeline)
        loader._iterator = None  # worker processes that persist have a copy of the old data set
        runner.logger.info(f'from epoch {runner.epoch + 1} of {runner.max_epochs} on, the images are plainer')


def first_of_last(epochs: int, share: float) -> int:
    """Return the first of the last epochs, counted from 0."""
    return max(1, epochs - max(1, round(epochs * share)))


def _innermost(dataset: Any) -> Iterator[Any]:
    """Yield the data sets inside wrappers that repeat or join them, or the data set itself."""
    inner = getattr(dataset, 'datasets', None) or [one for one in [getattr(dataset, 'dataset', None)] if one]
    if not inner:
        yield dataset
    for one in inner:
        yield from _innermost(one)
