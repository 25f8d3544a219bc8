"""The last epochs of a training are read through another pipeline, whatever wraps the data set."""

from types import SimpleNamespace

import pytest
from mmengine.dataset import BaseDataset, ConcatDataset, RepeatDataset
from mmengine.logging import MMLogger
from torch.utils.data import DataLoader

from emo_mm.config.edits import apply_edits
from emo_mm.config.names import get_config
from emo_mm.config.pipeline import Resizing, input_side, resized_pipelines, resizing_of
from emo_mm.config.view import read_view
from emo_mm.data.speed.fast_loading import cache_images
from emo_mm.engine.last_epochs import first_of_last
from emo_mm.engine.steps.start import not_exact
from emo_mm.registry import HOOKS

pytestmark = pytest.mark.toolbox


class Numbers(BaseDataset):
    """Three images that are what the pipeline makes of them."""

    def __init__(self):
        super().__init__(pipeline=[mixed])

    def load_data_list(self):
        return [{'seen': ''} for _ in range(3)]


def mixed(results):
    return {'seen': 'mixed'}


def plain(results):
    return {'seen': 'plain'}


@pytest.mark.parametrize(
    ('epochs', 'share', 'first'), [(300, 1 / 15, 280), (30, 1 / 15, 28), (10, 1 / 15, 9), (2, 0.9, 1), (1, 0.5, 1)]
)
def test_the_last_epochs_are_a_share_of_them_and_the_first_is_never_among_them(epochs, share, first):
    assert first_of_last(epochs, share) == first


@pytest.mark.parametrize('share', [0, 1, -0.1])
def test_a_share_that_is_none_or_all_is_refused(share):
    with pytest.raises(ValueError, match='must be between 0 and 1'):
        HOOKS.build(dict(type='LastEpochsHook', pipeline=[], share=share))


def wrapped(kind):
    return {
        'plain': Numbers,
        'repeated': lambda: RepeatDataset(Numbers(), 2),
        'joined': lambda: ConcatDataset([Numbers(), Numbers()]),
    }[kind]()


@pytest.mark.parametrize('kind', ['plain', 'repeated', 'joined'])
@pytest.mark.parametrize('workers', [0, 1])
@pytest.mark.parametrize('start', [0, 3])
def test_images_of_the_last_epochs_come_through_it(kind, workers, start):
    """Also where worker processes persist, and in a training that is resumed in one of the last epochs."""
    loader = DataLoader(wrapped(kind), num_workers=workers, persistent_workers=workers > 0)
    hook = HOOKS.build(dict(type='LastEpochsHook', pipeline=[plain], share=0.5))
    logger = MMLogger.get_instance('last_epochs')
    seen = []
    for epoch in range(start, 4):
        hook.before_train_epoch(SimpleNamespace(epoch=epoch, max_epochs=4, train_dataloader=loader, logger=logger))
        seen.append({word for batch in loader for word in batch['seen']})
    assert seen == [{'mixed'}, {'mixed'}, {'plain'}, {'plain'}][start:]


def test_a_training_of_one_epoch_says_that_it_has_no_last_ones():
    hook = HOOKS.build(dict(type='LastEpochsHook', pipeline=[plain], share=0.5))
    said = []
    for epochs in (1, 2):
        hook.before_train(SimpleNamespace(max_epochs=epochs, logger=SimpleNamespace(warning=said.append)))
    assert said == ['the training has a single epoch: none of it is trained on plainer images']


def test_that_mixing_does_not_resume_exactly_is_said():
    (line,) = not_exact(read_view(get_config('rtmdet_emo_1m_coco'), 'train'))
    assert line.startswith('CachedMosaic and CachedMixUp mix images of the calls before')
    assert not not_exact(read_view(get_config('ssdlite_emo_1m_coco'), 'train'))


def test_another_input_and_a_cache_reach_the_pipeline_of_the_last_epochs_too():
    cfg = get_config('rtmdet_emo_1m_coco')
    view = read_view(cfg, 'train')
    apply_edits(cfg, resized_pipelines(view, 2))
    assert [step.get('scale') or step.get('crop_size') for step in cfg.custom_hooks[-1].pipeline[2:4]] == [
        (640, 640)
    ] * 2
    assert cfg.train_dataloader.dataset.pipeline[3].img_scale == (640, 640)
    assert resizing_of(read_view(cfg, 'train')) == Resizing((640, 640), True)
    assert input_side(read_view(cfg, 'train')) == 640
    apply_edits(cfg, cache_images(read_view(cfg, 'train'), 'disk').edits)
    assert cfg.custom_hooks[-1].pipeline[0].type == 'emo_mm.LoadCachedImage'


def test_a_mosaic_brings_images_to_its_size_each():
    cfg = get_config('rtmdet_emo_1m_coco')
    cfg.custom_hooks = []
    assert resizing_of(read_view(cfg, 'train')) == Resizing((320, 320), True)
