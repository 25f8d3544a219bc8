"""The loss over the validation images: what it is of, where it is told, and that the training does not notice."""

from __future__ import annotations

import copy
import itertools
import json
import math
import os
import pickle
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import toy_training as toy
from data_trees import annotations, write_coco, write_folders, write_masks
from mmengine.dataset import pseudo_collate
from mmengine.logging import HistoryBuffer
from mmengine.registry import DATASETS, DefaultScope
from mmengine.structures import PixelData
from PIL import Image
from planning import planned, said
from shallow_models import EMO_ARCHS, EMOV2_ARCHS
from torch.utils.data import DataLoader, Dataset

from emo_mm.compat import register_toolbox
from emo_mm.config.names import get_config
from emo_mm.config.view import read_view
from emo_mm.engine import val_loss
from emo_mm.engine.options import TrainOptions
from emo_mm.engine.plan import take
from emo_mm.engine.resume.signals import StopRequest, TrainingStopped
from emo_mm.engine.runner import build_runner
from emo_mm.engine.steps import val_loss as steps
from emo_mm.engine.train import _check_ranks_agree
from emo_mm.engine.val_loss import ValLossHook, loss_preprocessor
from emo_mm.errors import UserError

pytestmark = pytest.mark.toolbox
DEMOS = {'det': 'ssdlite_emo_1m_demo', 'seg': 'deeplabv3_emo_1m_demo', 'cls': 'emo_1m_demo'}
_numbers = itertools.count()


# --- a training that does not notice


@DATASETS.register_module(force=True)
class SteadyImages(Dataset):
    """Noise whose seed is the index; a signal comes when the first one is read, if that is asked for."""

    def __init__(self, images=5, signum=0):
        self.images, self.signum = images, signum

    def __len__(self):
        return self.images

    def __getitem__(self, index):
        if self.signum:
            os.kill(os.getpid(), self.signum)
            self.signum = 0
        image = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(index))
        return {'inputs': image, 'labels': torch.tensor(index % 2)}


def toy_config(work_dir, by_epoch=True, dataset=None, **settings):
    """The config of a toy training with the hook; its loss is of random images if no data set is given."""
    cfg = toy.config(work_dir, by_epoch, **settings)
    loader = copy.deepcopy(cfg.val_dataloader)
    if dataset is not None:
        loader.dataset = dataset
    cfg.custom_hooks.append(dict(type='emo_mm.ValLossHook', dataloader=loader))
    return cfg


def logged(work_dir):
    """The lines of validations in a work directory."""
    files = sorted(Path(work_dir).glob('*/vis_data/scalars.json'))
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return [line for line in lines if 'acc' in line]


@pytest.mark.parametrize(('by_epoch', 'workers'), [(True, 0), (False, 0), (True, 1)])
def test_a_training_with_it_ends_with_the_weights_of_one_without(tmp_path, by_epoch, workers):
    toy.train(toy_config(tmp_path / 'with', by_epoch, workers=workers))
    toy.train(toy.config(tmp_path / 'without', by_epoch, workers=workers))
    assert toy.differences(toy.final_state(tmp_path / 'without'), toy.final_state(tmp_path / 'with')) == []
    assert [line['iteration'] for line in logged(tmp_path / 'with')] == ([10, 20] if by_epoch else [6, 12, 18, 20])
    assert all(line['val_loss'] > 0 for line in logged(tmp_path / 'with'))


def test_it_is_of_the_averaged_weights_that_are_validated_and_the_mean_over_the_images(tmp_path):
    images = SteadyImages()
    toy.train(toy_config(tmp_path, dataset=dict(type='SteadyImages')))  # 5 images in batches of 2
    model = toy.ToyModel().eval()
    model.load_state_dict(torch.load(tmp_path / 'epoch_4.pth', weights_only=True)['state_dict'])  # the averages
    with torch.no_grad():
        scores = model([images[i]['inputs'] for i in range(5)], None)
        expected = torch.nn.functional.cross_entropy(torch.stack(scores), torch.tensor([0, 1, 0, 1, 0]))
    assert logged(tmp_path)[-1]['val_loss'] == pytest.approx(expected.item(), rel=1e-5)


def test_each_validation_logs_its_own_loss_and_not_the_mean_of_the_last_ones(tmp_path):
    runner = toy.train(toy_config(tmp_path, by_epoch=False, dataset=dict(type='SteadyImages')))
    losses = [line['val_loss'] for line in logged(tmp_path)]
    assert len(set(losses)) == 4
    assert losses[-1] == runner.message_hub.get_scalar('val/val_loss').current()


def test_the_same_weights_have_the_same_loss_whatever_is_drawn(tmp_path):
    runner = toy.train(toy_config(tmp_path))  # random images
    hook = next(hook for hook in runner.hooks if isinstance(hook, ValLossHook))
    hook.after_val_epoch(runner)
    first = runner.message_hub.get_scalar('val/val_loss').current()
    torch.rand(7)
    hook.after_val_epoch(runner)
    assert runner.message_hub.get_scalar('val/val_loss').current() == first


@pytest.mark.parametrize('by_epoch', [True, False])
def test_a_signal_in_the_midst_of_it_leaves_and_the_resumed_training_ends_the_same(tmp_path, by_epoch):
    stopping = dict(type='SteadyImages', signum=int(signal.SIGTERM))
    with pytest.raises(TrainingStopped):
        toy.train(toy_config(tmp_path / 'stopped', by_epoch, stopping))
    assert not logged(tmp_path / 'stopped')
    steady = dict(type='SteadyImages')
    toy.train(toy_config(tmp_path / 'stopped', by_epoch, steady), 'auto')
    toy.train(toy_config(tmp_path / 'whole', by_epoch, steady))
    assert toy.differences(toy.final_state(tmp_path / 'whole'), toy.final_state(tmp_path / 'stopped')) == []
    assert [line['val_loss'] for line in logged(tmp_path / 'stopped')] == [
        line['val_loss'] for line in logged(tmp_path / 'whole')
    ]


def test_what_hooks_watch_stays_as_it_is(tmp_path):
    cfg = toy_config(tmp_path, save_best='auto')  # the first of the metrics
    runner = toy.train(cfg)
    assert runner.message_hub.get_info('best_ckpt').rpartition('/')[2].startswith('best_acc_')


def test_several_processes_log_the_mean_over_all_their_images(monkeypatch):
    monkeypatch.setattr(val_loss, 'all_gather_object', lambda own: [own, ({'val_loss': 6.0}, 3)])

    class Model(torch.nn.Module):
        def forward(self, inputs, mode):
            return {'loss': inputs.mean()}

        def parse_losses(self, losses):
            return losses['loss'], losses

    hook = ValLossHook({})
    hook._preprocessor = lambda batch, training: batch
    runner = SimpleNamespace(model=Model(), train_loop=None, val_loop=None)
    batches = DataLoader([{'inputs': 4.0}], batch_size=1)
    assert hook._means(runner, batches) == {'val_loss': (4 + 6) / 4}


def test_a_loss_that_is_not_finite_is_told_and_ends_nothing(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(SteadyImages, '__getitem__', lambda self, index: spoilt(index))
    cfg = toy_config(tmp_path, dataset=dict(type='SteadyImages'))
    runner = toy.train(cfg)
    assert runner.epoch == toy.EPOCHS
    assert all(math.isnan(line['val_loss']) for line in logged(tmp_path))
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert 'the loss over the validation images is not finite' in log


def test_processes_whose_loss_is_not_a_number_agree(monkeypatch):
    monkeypatch.setattr('mmengine.dist.all_gather_object', lambda own: [own, pickle.loads(pickle.dumps(own))])
    scalars = {'val/val_loss': HistoryBuffer([math.nan], [1])}
    logger = SimpleNamespace(info=lambda text: None)
    hub = SimpleNamespace(log_scalars=scalars)
    _check_ranks_agree(SimpleNamespace(message_hub=hub, model=toy.ToyModel(), rank=0, world_size=2, logger=logger))


def spoilt(index):
    return {'inputs': torch.full((3, 8, 8), math.nan), 'labels': torch.tensor(index % 2)}


# --- what it is in the toolboxes


def noise(path, size=(96, 72)):
    seed = sum(path.name.encode())
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)).save(path)


@pytest.fixture(scope='module')
def roots(tmp_path_factory):
    """Data of each task; train and val are the same images. One has no box, and one a crowd."""
    root = tmp_path_factory.mktemp('sets')
    found = annotations(images=4)
    for picture in found['images']:
        picture.update(width=96, height=72)
    del found['annotations'][3]
    for one in found['annotations']:
        x, y, width, height = one['bbox'] = [8 * one['id'], 10, 40, 30]
        one.update(area=1200, segmentation=[[x, y, x + width, y, x + width, y + height, x, y + height]])
    crowd = {**found['annotations'][0], 'id': 9, 'iscrowd': 1, 'bbox': [50, 40, 20, 20]}
    crowd['segmentation'] = {'size': [72, 96], 'counts': [4000, 100, 72 * 96 - 4100]}
    found['annotations'].append(crowd)
    write_coco(root / 'det', found, found)
    write_masks(root / 'seg')
    write_folders(root / 'cls')
    for path in (root / 'det').rglob('*.jpg'):
        noise(path)
    return root


def small_runner(plan, work_dir, **model):
    """The runner of a plan, its backbone cut down to one block of each kind; it has the weights of a training."""
    cfg = plan.cfg
    archs = {'EMO': EMO_ARCHS, 'EMOv2': EMOV2_ARCHS}[cfg.model.backbone.type.removeprefix('emo_mm.')]
    cfg.model.backbone.update(arch={**archs['1m'], 'depths': (1, 1, 2, 2)}, init_cfg=None)
    cfg.model.update(model)
    cfg.work_dir, cfg.experiment_name = str(work_dir), f'val_loss_{next(_numbers)}'
    cfg.log_level = 'ERROR'
    runner = build_runner(cfg, [])
    runner.train_loop.stop_request = StopRequest()
    runner.model.init_weights()
    return runner


def losses_by_the_hook(runner):
    hook = next(hook for hook in runner.hooks if isinstance(hook, ValLossHook))
    runner.model.eval()
    hook.before_train(runner)
    hook.after_val_epoch(runner)
    scalars = runner.message_hub.log_scalars.items()
    return {key.removeprefix('val/val_'): value.current() for key, value in scalars if key.startswith('val/val_')}


# training without augmentation: what comes between loading and packing
_PLAIN = {
    'det': [dict(type='Resize', scale=(128, 128), keep_ratio=False)],
    'seg': [dict(type='Resize', scale=(512, 128), keep_ratio=True)],
    'cls': [dict(type='ResizeEdge', scale=108, edge='short'), dict(type='CenterCrop', crop_size=96)],
}
_PACKING = {'det': 'PackDetInputs', 'seg': 'PackSegInputs', 'cls': 'PackInputs'}


@pytest.mark.parametrize('task', DEMOS)
def test_on_the_training_images_it_is_the_loss_that_the_model_gives_in_training(roots, tmp_path, task):
    plan = planned(roots / task, DEMOS[task], val_loss=True, workers=0, batch_size=2)
    loader = plan.cfg.custom_hooks[-3].dataloader
    loading = [step for step in loader.dataset.pipeline if step.type.startswith('Load')]
    plain = [*loading, *_PLAIN[task], dict(type=_PACKING[task])]
    plan.cfg.train_dataloader.dataset.pipeline = plain
    plan.cfg.train_dataloader.dataset.pop('filter_cfg', None)
    loader.dataset.pipeline = [dict(step) for step in plain]
    runner = small_runner(plan, tmp_path)
    found = losses_by_the_hook(runner)

    model, dataset = runner.model, runner.train_dataloader.dataset
    size = 1 if task == 'seg' else 2  # as the loader of the loss has it
    sums, images = {}, 0
    for start in range(0, len(dataset), size):
        batch = pseudo_collate([dataset[i] for i in range(start, min(start + size, len(dataset)))])
        data = model.data_preprocessor(batch, True)
        if task == 'seg':  # whose training pads to a crop of 320 pixels
            data['inputs'] = data['inputs'][..., :128, :171]
            for sample in data['data_samples']:
                sample.gt_sem_seg = PixelData(data=sample.gt_sem_seg.data[..., :128, :171])
        with torch.no_grad():
            logs = model.parse_losses(model(**data, mode='loss'))[1]
        for name, value in logs.items():
            sums[name] = sums.get(name, 0) + float(value) * len(batch['inputs'])
        images += len(batch['inputs'])
    expected = {name: value / images for name, value in sums.items() if 'loss' in name}
    assert images == {'det': 4, 'seg': 3, 'cls': 3}[task]
    assert found == pytest.approx(expected, rel=1e-5)
    assert found['loss'] > 0


@pytest.mark.parametrize(
    ('name', 'task', 'parts'),
    [
        ('retinanet_emo_1m_coco', 'det', {'loss', 'loss_cls', 'loss_bbox'}),
        (
            'mask-rcnn_emov2_1m_coco',
            'det',
            {'loss', 'loss_rpn_cls', 'loss_rpn_bbox', 'loss_cls', 'loss_bbox', 'loss_mask'},
        ),
        ('segformer_emov2_1m_ade20k', 'seg', {'loss', 'decode.loss_ce'}),
    ],
)
def test_other_heads_have_the_losses_of_their_training(roots, tmp_path, name, task, parts):
    plan = planned(roots / task, name, val_loss=True, weights='none', workers=0, batch_size=2, input=128)
    found = losses_by_the_hook(small_runner(plan, tmp_path))
    assert set(found) == parts
    assert all(0 <= value < 100 for value in found.values())


def test_truth_comes_at_the_size_of_the_input(roots, tmp_path):
    plan = planned(roots / 'det', 'mask-rcnn_emov2_1m_coco', val_loss=True, weights='none', workers=0, input=128)
    register_toolbox('mmdet')
    hook = plan.cfg.custom_hooks[-3]
    with DefaultScope.overwrite_default_scope('mmdet'):
        dataset = DATASETS.build(hook.dataloader.dataset)
        sample = dataset[0]['data_samples']
    assert sample.img_shape == (128, 171)
    assert sample.gt_instances.masks.masks.shape == (1, 128, 171)
    expected = np.array([[8, 10, 48, 40]]) * 128 / 72
    assert sample.gt_instances.bboxes.tensor.numpy() == pytest.approx(expected, abs=0.2)
    assert len(sample.ignored_instances) == 1  # the crowd
    assert hook.dataloader.batch_size == plan.cfg.train_dataloader.batch_size
    assert [step.type for step in plan.cfg.val_dataloader.dataset.pipeline][1] == 'Resize'  # as the metrics need it


def test_maps_are_padded_along_with_images_as_a_test_pads_them():
    register_toolbox('mmseg')
    from mmengine.registry import MODELS
    from mmseg.structures import SegDataSample

    settings = dict(type='mmseg.SegDataPreProcessor', size=(320, 320), mean=[0.0] * 3, std=[1.0] * 3)
    preprocessor = loss_preprocessor(MODELS.build(dict(settings, test_cfg=dict(size_divisor=32))))
    sample = SegDataSample(gt_sem_seg=PixelData(data=torch.zeros(1, 50, 70, dtype=torch.long)))
    batch = preprocessor({'inputs': [torch.ones(3, 50, 70)], 'data_samples': [sample]}, True)
    assert batch['inputs'].shape == (1, 3, 64, 96)
    labels = batch['data_samples'][0].gt_sem_seg.data
    assert labels.shape == (1, 64, 96)
    assert (labels[:, :50, :70] == 0).all()
    assert (labels == 255).sum() == 64 * 96 - 50 * 70
    without = loss_preprocessor(MODELS.build(settings))
    assert without({'inputs': [torch.ones(3, 50, 70)], 'data_samples': [sample]}, True)['inputs'].shape[2:] == (50, 70)


def test_classifiers_get_plain_labels_where_their_training_mixes_images():
    register_toolbox('mmpretrain')
    from mmengine.registry import MODELS
    from mmpretrain.structures import DataSample

    mixing = dict(augments=[dict(type='Mixup', alpha=0.8)])
    own = MODELS.build(dict(type='mmpretrain.ClsDataPreprocessor', num_classes=2, batch_augments=mixing))
    images = torch.arange(2.0).view(2, 1, 1, 1).expand(2, 3, 4, 4)
    samples = [DataSample().set_gt_label(label) for label in (0, 1)]
    batch = loss_preprocessor(own)({'inputs': images, 'data_samples': samples}, True)
    assert torch.equal(batch['inputs'], images)
    assert [sample.gt_score.tolist() for sample in batch['data_samples']] == [[1, 0], [0, 1]]
    assert own.batch_augments is not None  # the training's own stays


# --- what the flag does to a config


@pytest.mark.parametrize('task', DEMOS)
def test_the_flag_adds_the_hook_and_tells_its_cost(roots, task):
    plan = planned(roots / task, DEMOS[task], val_loss=True)
    (hook,) = (hook for hook in plan.cfg.custom_hooks if hook.type == 'emo_mm.ValLossHook')
    names = [step.type for step in hook.dataloader.dataset.pipeline]
    assert names[1] == ('ResizeEdge' if task == 'cls' else 'LoadAnnotations')
    assert not hook.dataloader.persistent_workers
    assert 'one more pass over its images' in said(plan, 'validation loss')
    assert not [line for line in planned(roots / task, DEMOS[task]).lines if 'validation loss' in line]


def test_the_truth_follows_images_that_are_kept_decoded(roots):
    plan = planned(roots / 'det', DEMOS['det'], val_loss=True, cache='disk')
    hook = next(hook for hook in plan.cfg.custom_hooks if hook.type == 'emo_mm.ValLossHook')
    names = [step.type for step in hook.dataloader.dataset.pipeline]
    assert names == ['emo_mm.LoadCachedImage', 'LoadAnnotations', 'Resize', 'PackDetInputs']


def test_a_config_that_has_the_hook_gets_it_for_the_data_of_this_run(roots):
    cfg = get_config(DEMOS['det'])
    cfg.custom_hooks.append(dict(type='emo_mm.ValLossHook', dataloader=dict(dataset=dict(ann_file='of another run'))))
    take(cfg, [steps.val_loss], TrainOptions('x'), 'train')
    (hook,) = (hook for hook in cfg.custom_hooks if hook.type == 'emo_mm.ValLossHook')
    assert hook.dataloader.dataset.ann_file == cfg.val_dataloader.dataset.ann_file


def test_without_validation_a_config_loses_the_hook(roots):
    cfg = planned(roots / 'det', DEMOS['det'], val_loss=True).cfg
    path = roots / 'with_hook.py'
    cfg.dump(path)
    plan = planned(roots / 'det', str(path), no_val=True)
    assert not [hook for hook in plan.cfg.custom_hooks if hook.type == 'emo_mm.ValLossHook']
    assert 'and without ValLossHook' in said(plan, 'without validation')


def test_data_sets_inside_others_get_their_truth_early_too():
    cfg = get_config(DEMOS['det'])
    inner = dict(cfg.val_dataloader.dataset)
    cfg.val_dataloader.dataset = dict(type='ConcatDataset', datasets=[inner, copy.deepcopy(inner)])
    view = read_view(cfg, 'train')
    found = steps.loss_loader(view, view.splits['val'].loader.node)
    for dataset in found['dataset']['datasets']:
        assert [step['type'] for step in dataset['pipeline']][1] == 'LoadAnnotations'


@pytest.mark.parametrize(
    ('given', 'words'),
    [
        ({'no_val': True}, '--no-val and --val-loss exclude each other'),
        ({'cfg_options': dict.fromkeys(('val_dataloader', 'val_cfg', 'val_evaluator'))}, 'has no val_dataloader'),
    ],
)
def test_without_validation_it_is_refused(roots, given, words):
    options = TrainOptions(DEMOS['cls'], val_loss=True, **given)
    cfg = get_config(DEMOS['cls'])
    cfg.merge_from_dict(given.get('cfg_options', {}))
    with pytest.raises(UserError, match=words):
        take(cfg, [steps.val_loss], options, 'train')


@pytest.mark.parametrize(
    ('task', 'field'), [('det', 'gt_instances.bboxes'), ('seg', 'gt_sem_seg'), ('cls', 'gt_label')]
)
def test_validation_data_without_truth_are_refused_before_the_first_step(roots, task, field):
    cfg = planned(roots / task, DEMOS[task], val_loss=True).cfg
    register_toolbox(cfg.default_scope)
    hook = next(hook for hook in cfg.custom_hooks if hook.type == 'emo_mm.ValLossHook')
    dataset = hook.dataloader.dataset
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        whole = DATASETS.build(dataset)
        dataset.pipeline = [step for step in dataset.pipeline if step.type != 'LoadAnnotations']
        dataset.update({'with_label': False, 'metainfo': None} if task == 'cls' else {})
        without = DATASETS.build(dataset)
        runner = SimpleNamespace(model=toy.ToyModel(), cfg=cfg, seed=0)
        runner.build_dataloader = lambda settings, seed: DataLoader(whole)
        ValLossHook({}, hook.truth).before_train(runner)
        runner.build_dataloader = lambda settings, seed: DataLoader(without)
        with pytest.raises(UserError, match=rf'hold no truth to compute a loss with \({field} is missing\)'):
            ValLossHook({}, hook.truth).before_train(runner)
