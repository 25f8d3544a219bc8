"""Loaders and evaluators: batch size, processes, decoded images, the faster metric of COCO."""

from __future__ import annotations

from importlib.util import find_spec

from emo_mm.config.edits import Change
from emo_mm.config.view import ConfigView
from emo_mm.data.speed.fast_loading import cache_images
from emo_mm.engine.options import RunOptions
from emo_mm.errors import UserError


def batches(view: ConfigView, options: RunOptions) -> Change:
    """Take the batch size of what is trained or tested on, and the number of loader processes."""
    main = view.splits[view.purpose].loader
    size = () if options.batch_size is None or main is None else main.edit(batch_size=options.batch_size)
    if options.workers is None:
        return Change(size)
    number = options.workers
    loaders = [split.loader for split in view.splits.values() if split.loader is not None]
    processes = [loader.edit(num_workers=number, persistent_workers=number > 0) for loader in loaders]
    return Change((*size, *(edit for edits in processes for edit in edits)))


def cache(view: ConfigView, options: RunOptions) -> Change:
    """Keep decoded images, if asked for.

    Raises:
        UserError: If a size is given for no cache, or the cache cannot be made.
    """
    if options.cache is not None:
        return cache_images(view, options.cache, options.cache_gb)
    if options.cache_gb is not None:
        raise UserError('--cache-gb is the size of a cache; say --cache ram or --cache disk too')
    return Change()


def coco_metric(view: ConfigView, options: RunOptions) -> Change:
    """Evaluate with mmdet's FasterCocoMetric (the maintained fork has it), which gives the same figures sooner."""
    evaluators = [part for split in view.splits.values() for part in split.evaluators]
    slow = [part for part in evaluators if part.node.get('type') == 'CocoMetric']
    # the search imports mmdet, for nothing where another toolbox evaluates
    if not slow or find_spec('faster_coco_eval') is None:
        return Change()
    if find_spec('mmdet.evaluation.metrics.faster_coco_metric') is None:
        return Change()
    return Change(tuple(edit for part in slow for edit in part.edit(type='FasterCocoMetric')))
