"""The classifier head: the published logits, out of a classifier built from its config."""

import golden
import numpy as np
import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner.checkpoint import load_checkpoint

from emo_mm.compat import register_toolbox
from emo_mm.config.build import build_model
from emo_mm.config.names import get_config

pytestmark = pytest.mark.toolbox

NAMES = ['emo_1m', 'emo_2m', 'emo_5m', 'emo_6m', 'emov2_1m']


@pytest.fixture
def mmpretrain():
    """mmpretrain with its modules registered, for parts built by hand."""
    register_toolbox('mmpretrain')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


@pytest.mark.parametrize(
    'case', [case for case in golden.cases('eval') if case['model'] != 'emov2_20m'], ids=golden.case_id
)
def test_logits_equal_the_golden_ones(case, mmpretrain):
    cfg = get_config(f'{case["model"]}_imagenet')
    cfg.model.backbone.window_size = case['window_size']
    classifier = MODELS.build(cfg.model).eval()
    classifier.load_state_dict(golden.state_dict(case['model']))  # official names, and strict
    with torch.no_grad():
        logits = classifier(golden.image(case), mode='tensor')
    assert logits.shape == (case['shape'][0], 1000)
    expected = golden.answers(case)['logits']
    np.testing.assert_allclose(golden.sample(logits, expected.size), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('name', NAMES)
def test_an_official_file_fills_the_classifier_through_mmengine(name, tmp_path):
    state = golden.state_dict(name)
    torch.save(state, tmp_path / 'net.pth')
    classifier = build_model(f'{name}_imagenet')
    load_checkpoint(classifier, str(tmp_path / 'net.pth'), map_location='cpu', strict=True)
    assert_loaded(classifier, state)


@pytest.mark.parametrize('layout', [('net_E', 'net'), ('net',), ('state_dict',), ('model',)], ids='-'.join)
def test_an_official_file_may_hold_the_tensors_in_a_dict(layout, tmp_path):
    state = golden.state_dict('emo_1m')
    other = {key: torch.zeros_like(value) for key, value in state.items()}
    torch.save({key: state if key == layout[0] else other for key in layout}, tmp_path / 'net.pth')
    classifier = build_model('emo_1m_imagenet')
    load_checkpoint(classifier, str(tmp_path / 'net.pth'), map_location='cpu', strict=True)
    assert_loaded(classifier, state)


def assert_loaded(classifier, state):
    assert torch.equal(classifier.head.fc.weight, state['head.weight'])
    assert torch.equal(classifier.head.norm.bias, state['norm.norm.bias'])
    official = classifier.backbone.names.official_key('stem.conv.weight')
    assert torch.equal(classifier.backbone.stem.conv.weight, state[official])


def test_names_of_ours_are_left_alone_and_foreign_ones_are_reported():
    classifier = build_model('emo_1m_imagenet')
    state = {name: torch.full_like(value, 2) for name, value in classifier.state_dict().items()}
    classifier.load_state_dict(state)
    assert all(torch.all(value == 2) for value in classifier.state_dict().values())
    official = golden.state_dict('emo_1m')
    official['stage9.0.qk.conv.weight'] = torch.zeros(1)
    with pytest.raises(RuntimeError, match=r'Unexpected key.*stage9\.0\.qk\.conv\.weight'):
        classifier.load_state_dict(official)
    del official['stage9.0.qk.conv.weight'], official['head.bias']
    with pytest.raises(RuntimeError, match=r'Missing key.*head\.fc\.bias'):
        classifier.load_state_dict(official)


def test_an_official_state_dict_loads_below_a_wrapper():
    classifier = build_model('emo_1m_imagenet')
    wrapper = torch.nn.ModuleDict({'module': classifier})
    state = {f'module.{name}': value for name, value in golden.state_dict('emo_1m').items()}
    wrapper.load_state_dict(state)
    assert torch.equal(classifier.head.fc.bias, state['module.head.bias'])


def test_initial_weights_are_the_published_ones(mmpretrain):
    head = MODELS.build(dict(type='emo_mm.EMOClsHead', num_classes=1000, in_channels=320))
    head.init_weights()
    weight = head.fc.weight
    assert weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert weight.mean().item() == pytest.approx(0, abs=1e-3)
    assert not head.fc.bias.any()
    assert torch.all(head.norm.weight == 1)
    assert not head.norm.bias.any()


def test_the_last_map_is_normalised_per_pixel_before_it_is_averaged(mmpretrain):
    head = MODELS.build(dict(type='emo_mm.EMOClsHead', num_classes=2, in_channels=4))
    x = torch.randn(3, 4, 5, 7) * 10
    unit = (x - x.mean(1, keepdim=True)) / (x.var(1, unbiased=False, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(head.pre_logits((torch.zeros(1), x)), unit.mean((2, 3)))


@pytest.mark.parametrize('setting', ['num_classes', 'in_channels'])
def test_sizes_below_one_are_refused(setting, mmpretrain):
    with pytest.raises(ValueError, match=f'{setting} is 0'):
        MODELS.build(dict(type='emo_mm.EMOClsHead', **{'num_classes': 2, 'in_channels': 4, setting: 0}))


def test_it_trains_in_the_frame_of_mmpretrain():
    classifier = build_model('emo_1m_demo').train()
    from mmpretrain.structures import DataSample

    samples = [DataSample().set_gt_label(label) for label in (0, 3)]
    losses = classifier(torch.randn(2, 3, 64, 64), samples, mode='loss')
    losses['loss'].backward()
    assert losses['loss'].item() > 0
    assert classifier.head.fc.weight.grad.abs().sum() > 0
    with torch.no_grad():
        predictions = classifier.eval()(torch.randn(2, 3, 64, 64), samples, mode='predict')
    assert [prediction.pred_score.shape for prediction in predictions] == [(4,), (4,)]
