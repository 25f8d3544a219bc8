"""Steps of a plan taken on a config, for tests of single steps."""

from emo_mm.config.edits import apply_edits
from emo_mm.config.view import read_view
from emo_mm.data import apply, checks
from emo_mm.data.speed import fast_loading
from emo_mm.data.splits import DataRequest
from emo_mm.engine.options import TrainOptions
from emo_mm.engine.plan import TRAIN, plan_run, plan_training, take
from emo_mm.engine.steps import hooks, loaders, schedule, start


def load_run_config(options, training):
    plan = plan_run(options, 'train' if training else 'test')
    return plan.cfg, plan.lines


def apply_train_options(cfg, options):
    return take(cfg, TRAIN, options, 'train')[0]


def set_length(cfg, epochs, iters):
    take(cfg, [schedule.length], TrainOptions('x', epochs=epochs, iters=iters), 'train')


def make_resumable(cfg):
    return take(cfg, [hooks.resumable_loop, hooks.safe_checkpoints], TrainOptions('x'), 'train')[0]


def resume(cfg, asked):
    return take(cfg, [start.resume], TrainOptions('x', resume=asked), 'train')[0]


def guard_numbers(cfg, skip=0):
    take(cfg, [hooks.finite_numbers], TrainOptions('x', skip_non_finite=skip), 'train')


def use_faster_coco_metric(cfg):
    return bool(take(cfg, [loaders.coco_metric], TrainOptions('x'), 'train')[1])


def cache_images(cfg, kind, gigabytes=None):
    change = fast_loading.cache_images(read_view(cfg, 'train'), kind, gigabytes)
    apply_edits(cfg, change.edits)
    return change.lines


def use_reduced_decoding(cfg):
    change = fast_loading.use_reduced_decoding(read_view(cfg, 'test'))
    apply_edits(cfg, change.edits)
    return change.lines


def apply_data(cfg, request, training=True, tolerant=False):
    change = apply.apply_data(read_view(cfg, 'train' if training else 'test'), request, tolerant)
    apply_edits(cfg, change.edits)
    return list(change.lines)


def check_data(cfg, training=True, tolerant=False):
    return checks.check_data(read_view(cfg, 'train' if training else 'test'), tolerant)


def repair_data(cfg, training=True):
    change = checks.repair_data(read_view(cfg, 'train' if training else 'test'))
    apply_edits(cfg, change.edits)
    return list(change.lines)


def check_content(cfg, training, check='quick', policy='error'):
    change = checks.check_content(read_view(cfg, 'train' if training else 'test'), check, policy)
    apply_edits(cfg, change.edits)
    return list(change.lines)


def planned(root, config, **options):
    """The plan of a training on a folder of one's own; its files are not looked into."""
    return plan_training(TrainOptions(config, data=DataRequest(data_root=str(root)), dry_run=True, **options))


def said(plan, words):
    return next(line for line in plan.lines if words in line)
