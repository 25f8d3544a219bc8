"""The distilled classifier: a frozen teacher that is nowhere but in the loss."""

import copy
import json

import pytest
import torch
from mmengine.registry import DefaultScope
from torch import nn

from emo_mm.compat import register_toolbox
from emo_mm.config.build import build_from_config
from emo_mm.config.names import find_config, get_config
from emo_mm.errors import UserError
from emo_mm.models.inference.fuse import fuse
from emo_mm.predict.loading import load_for_prediction
from emo_mm.predict.network import ClassifierNetwork
from emo_mm.weights import load_model

pytestmark = pytest.mark.toolbox

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


@pytest.fixture(autouse=True)
def _mmpretrain():
    register_toolbox('mmpretrain')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


def classifier_config(width, num_classes=5, arch=None):
    """Return a classifier of one block in each stage."""
    arch = arch or dict(
        depths=(1, 1, 1, 1),
        embed_dims=(width,) * 4,
        expand_ratio=(2,) * 4,
        kernel_size=(3,) * 4,
        num_heads=(0,) * 4,
    )
    return dict(
        type='ImageClassifier',
        backbone=dict(type='emo_mm.EMOv2', arch=arch, out_indices=(4,)),
        head=dict(type='emo_mm.EMOClsHead', num_classes=num_classes, in_channels=width),
    )


@pytest.fixture
def distilled(tmp_path):
    """Return what makes a student, with changes to its config, and with it the teacher that wrote the checkpoint."""
    teacher_config = classifier_config(16)

    def make(**changes):
        cfg = get_config('emov2_1m_kd_imagenet')
        path = tmp_path / 'teacher.pth'
        student = classifier_config(8) | dict(type='emo_mm.DistilledClassifier')
        settings = student | dict(teacher=teacher_config, teacher_checkpoint=str(path)) | changes
        for key, value in settings.items():
            cfg.model[key] = value  # `update` would merge the teachers
        if not path.exists():
            torch.manual_seed(3)
            from mmpretrain.registry import MODELS

            torch.save(MODELS.build(copy.deepcopy(teacher_config)).state_dict(), path)
        return build_from_config(cfg)

    return make


def samples(count, num_classes=5):
    from mmpretrain.structures import DataSample

    return [DataSample().set_gt_label(i % num_classes) for i in range(count)]


def test_the_loss_is_that_of_the_formula(distilled):
    model = distilled(distill_weight=2.5, temperature=3.0).train()
    model.init_weights()
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.momentum = 0.0
    images, labels = torch.randn(4, 3, 64, 64), samples(4)
    losses = model(images, labels, mode='loss')
    with torch.no_grad():
        own, taught = model(images), model.teacher.network(images)
    p, q = (taught / 3).softmax(-1), (own / 3).softmax(-1)
    expected = 2.5 * 9 * (p * (p.log() - q.log())).sum(-1).mean()
    torch.testing.assert_close(losses['loss_distill'], expected)
    assert expected > 0
    plain = model.head.loss(model.extract_feat(images), labels)
    torch.testing.assert_close(losses['loss'], plain['loss'])
    total, _ = model.parse_losses(losses)
    torch.testing.assert_close(total, losses['loss'] + losses['loss_distill'])


def test_a_student_that_answers_as_its_teacher_loses_nothing(distilled):
    model = distilled(**classifier_config(16) | dict(type='emo_mm.DistilledClassifier'))
    model.init_weights()
    load_model(model, model.teacher.checkpoint)
    losses = model(torch.randn(2, 3, 64, 64), samples(2), mode='loss')
    assert losses['loss_distill'].item() == pytest.approx(0, abs=1e-6)


def test_the_student_alone_gets_gradients(distilled):
    model = distilled().train()
    model.init_weights()
    before = copy.deepcopy(model.teacher.network.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(torch.randn(2, 3, 64, 64), samples(2), mode='loss')['loss_distill'].backward()
    optimizer.step()
    teacher = model.teacher.network
    assert not teacher.training
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in teacher.parameters())
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


def test_the_teacher_is_no_part_of_the_network(distilled):
    model = distilled()
    names, count = list(model.state_dict()), sum(p.numel() for p in model.parameters())
    model.init_weights()
    model.train().to(torch.float64).requires_grad_(True)
    assert model.teacher.network is not None
    assert list(model.state_dict()) == names
    assert sum(p.numel() for p in model.parameters()) == count
    assert not any('teacher' in name for name, _ in model.named_modules())
    assert not any(p.requires_grad or p.dtype == torch.float64 for p in model.teacher.network.parameters())
    assert copy.deepcopy(model).teacher is model.teacher  # the moving average takes no second one


def test_building_the_teacher_leaves_the_random_numbers_alone(distilled):
    plain, with_teacher = (distilled() for _ in range(2))
    torch.manual_seed(5)
    super(type(plain), plain).init_weights()
    after = torch.rand(3)
    torch.manual_seed(5)
    with_teacher.init_weights()
    assert torch.equal(torch.rand(3), after)


@pytest.mark.parametrize('to_rgb', [True, False])
def test_the_teacher_sees_images_normalised_its_own_way(distilled, to_rgb):
    own = dict(mean=[10.0, 20.0, 30.0], std=[50.0, 60.0, 70.0], to_rgb=to_rgb)
    model = distilled(teacher=classifier_config(16) | dict(data_preprocessor=own))
    model.init_weights()
    seen = []
    model.teacher.network.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    raw = torch.randint(0, 256, (2, 3, 64, 64)).float()  # red, green, blue
    images = (raw - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    model(images, samples(2), mode='loss')
    raw = raw if to_rgb else raw.flip(1)
    expected = (raw - torch.tensor(own['mean']).view(3, 1, 1)) / torch.tensor(own['std']).view(3, 1, 1)
    torch.testing.assert_close(seen[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(teacher_checkpoint=None), r'the teacher has no weights: give --cfg-options model\.teacher_checkpoint'),
        (dict(teacher_checkpoint='nowhere.pth'), r'nowhere\.pth'),
        (dict(teacher=classifier_config(24)), r'teacher\.pth does not fit the teacher: .*size mismatch'),
        (dict(teacher=dict(type='NoSuchNet'), teacher_checkpoint='x'), 'the teacher, NoSuchNet, cannot be built'),
    ],
)
def test_a_teacher_that_cannot_be_had_is_one_error_before_training(distilled, changes, message):
    model = distilled(**changes)
    model(torch.randn(1, 3, 64, 64))  # prediction does not ask for it
    with pytest.raises(UserError, match=message):
        model.init_weights()


def test_a_teacher_of_other_classes_is_an_error(distilled):
    model = distilled(head=dict(type='emo_mm.EMOClsHead', num_classes=3, in_channels=8))
    model.init_weights()
    with pytest.raises(UserError, match=r'answers \(2, 5\) where the classifier answers \(2, 3\)'):
        model(torch.randn(2, 3, 64, 64), samples(2, 3), mode='loss')


@pytest.mark.parametrize('change', [dict(distill_weight=-1.0), dict(temperature=0.0)])
def test_settings_that_mean_nothing_are_refused(distilled, change):
    with pytest.raises(ValueError, match='they must be at least 0 and above 0'):
        distilled(**change)


@pytest.fixture(scope='module')
def trained(tmp_path_factory, shared_dir):
    """The work directory of a distilled config, trained for one epoch of real images by a teacher of the user's own."""
    from emo_mm.cli import main

    folder = tmp_path_factory.mktemp('distilled')
    from mmpretrain.registry import MODELS

    register_toolbox('mmpretrain')
    with DefaultScope.overwrite_default_scope('mmpretrain'):  # imagenet_tiny has 40 classes
        teacher = MODELS.build(classifier_config(16, 40))
    torch.save(teacher.state_dict(), folder / 'teacher.pth')
    (folder / 'own.py').write_text(
        f"""
_base_ = '{find_config('emov2_1m_kd_imagenet').resolve().as_posix()}'
model = dict(
    backbone=dict(arch=dict(_delete_=True, **{classifier_config(8)['backbone']['arch']})),
    head=dict(in_channels=8),
    teacher=dict(_delete_=True, **{classifier_config(16, 40)}),
    teacher_checkpoint='{(folder / 'teacher.pth').as_posix()}',
)
"""
    )
    arguments = [str(folder / 'own.py'), '--data-root', str(shared_dir / 'data' / 'imagenet_tiny'), '--weights', 'none']
    arguments += ['--epochs', '1', '--batch-size', '20', '--workers', '0', '--work-dir', str(folder / 'run')]
    assert main(['train', *arguments, '--cfg-options', 'default_hooks.logger.interval=1']) == 0
    (folder / 'teacher.pth').unlink()
    return folder / 'run'


def test_training_logs_the_term_and_saves_no_teacher(trained):
    checkpoint = torch.load(trained / 'epoch_1.pth', weights_only=True)
    assert not any('teacher' in name for key in ('state_dict', 'ema_state_dict') for name in checkpoint[key])
    (scalars,) = trained.rglob('scalars.json')
    logged = [json.loads(line) for line in scalars.read_text().splitlines()]
    terms = [step['loss_distill'] for step in logged if 'loss' in step]
    assert terms
    assert all(term > 0 for term in terms)


def test_testing_and_predicting_need_no_teacher(trained, shared_dir, run_cli, tmp_path):
    checkpoint = trained / 'epoch_1.pth'  # its config names a file that is no more
    model = load_for_prediction(checkpoint).model
    assert type(model).__name__ == 'DistilledClassifier'
    assert model.teacher.network is None
    data = shared_dir / 'data' / 'imagenet_tiny'
    arguments = ['--data-root', data, '--work-dir', tmp_path / 'test', '--workers', '0']
    result = run_cli('test', trained.parent / 'own.py', checkpoint, *arguments)
    assert result.code == 0, result.err
    metrics = json.loads((tmp_path / 'test' / 'test_metrics.json').read_text())['metrics']
    assert 0 <= metrics['accuracy/top1'] <= 100
    assert isinstance(ClassifierNetwork(fuse(model))(torch.zeros(1, 3, 64, 64)), torch.Tensor)
