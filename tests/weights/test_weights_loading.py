from __future__ import annotations

import dataclasses
import os

import golden
import pytest
import torch
from mmengine.model import BaseModule
from torch import nn

from emo_mm.errors import UserError
from emo_mm.models.emo import EMO
from emo_mm.models.names import FAMILIES
from emo_mm.weights import registry
from emo_mm.weights.cache import git_blob_sha1
from emo_mm.weights.loading import init_backbone_from, load_backbone, load_model, load_weights

pytestmark = pytest.mark.toolbox

CLASSIFIER = {'norm.norm.weight': 'head.norm.weight', 'norm.norm.bias': 'head.norm.bias'} | {
    'head.weight': 'head.fc.weight',
    'head.bias': 'head.fc.bias',
}


class Head(nn.Module):
    def __init__(self, width, classes):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc = nn.Linear(width, classes)


class Classifier(BaseModule):
    """The parts, by the names that mmpretrain gives them."""

    def __init__(self, arch='1m', classes=1000, **kwargs):
        super().__init__()
        self.backbone = EMO(arch, **kwargs)
        self.head = Head(self.backbone.out_channels[-1], classes)


class Detector(BaseModule):
    def __init__(self, init_cfg=None):
        super().__init__()
        self.backbone = EMO('1m', init_cfg=init_cfg)
        self.bbox_head = nn.Conv2d(168, 4, 1)


def native(official, prefix='', native_key=FAMILIES['EMO'].native_key):
    names = {key: native_key(key) for key in official}
    return {prefix + name: official[key] for key, name in names.items() if name is not None}


def assert_equal(state_dict, expected):
    assert state_dict.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(state_dict[key], value), key


@pytest.fixture
def emo_1m(official, tmp_path):
    state_dict = official('emo_1m')
    path = tmp_path / 'net.pth'
    torch.save(state_dict, path)
    return state_dict, path


# -- What fits -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('name', ['emo_1m', 'emo_2m', 'emo_5m', 'emo_6m', 'emov2_1m', 'emov2_20m'])
def test_every_official_tensor_is_loaded_or_accounted_for(official, tmp_path, name):
    state_dict = official(name)
    torch.save({'net_E': state_dict}, tmp_path / 'net.pth')
    backbone = golden.backbone(name)
    report = load_backbone(backbone, tmp_path / 'net.pth')
    total = len(state_dict) - 4
    assert str(report) == f'{total}/{total} backbone tensors loaded, 4 classifier tensors not used'
    assert_equal(backbone.state_dict(), native(state_dict, native_key=backbone.names.native_key))


@pytest.mark.parametrize('prefix', ['', 'backbone.', 'module.backbone.'])
@pytest.mark.parametrize('names', ['official', 'ours'])
@pytest.mark.parametrize('model', [EMO, Detector, Classifier])
def test_backbone_is_found_in_any_file_and_any_model(emo_1m, tmp_path, prefix, names, model):
    state_dict = emo_1m[0]
    backbone_only = {key: value for key, value in state_dict.items() if FAMILIES['EMO'].native_key(key) is not None}
    content = {
        prefix + key: value for key, value in (backbone_only if names == 'official' else native(state_dict)).items()
    }
    if prefix:
        content[prefix.replace('backbone', 'neck') + 'conv.weight'] = torch.ones(3)
    torch.save({'state_dict': content}, tmp_path / 'any.pth')
    model = model()
    report = load_backbone(model, tmp_path / 'any.pth')
    assert (report.loaded, report.total, report.other) == (213, 213, 1 if prefix else 0)
    assert_equal(getattr(model, 'backbone', model).state_dict(), native(state_dict))


def test_published_classifier_loads_whole_into_ours(emo_1m):
    state_dict, path = emo_1m
    model = Classifier()
    report = load_model(model, path)
    assert str(report) == '217/217 model tensors loaded'
    expected = native(state_dict, 'backbone.') | {ours: state_dict[theirs] for theirs, ours in CLASSIFIER.items()}
    assert_equal(model.state_dict(), expected)


def test_trained_model_loads_whole(tmp_path):
    trained, fresh = Detector(), Detector()
    torch.save({'state_dict': trained.state_dict(), 'meta': {}}, tmp_path / 'epoch_1.pth')
    assert str(load_model(fresh, tmp_path / 'epoch_1.pth')) == '215/215 model tensors loaded'
    assert_equal(fresh.state_dict(), trained.state_dict())


def test_all_that_belongs_to_the_model_is_loaded(emo_1m, tmp_path):
    assert str(load_weights(Classifier(), emo_1m[1])) == '217/217 model tensors loaded'
    assert str(load_weights(Detector(), emo_1m[1])).startswith('213/213 backbone tensors loaded, 4 classifier')
    assert str(load_weights(EMO('1m'), emo_1m[1])).startswith('213/213 backbone tensors loaded, 4 classifier')
    torch.save(Detector().state_dict(), tmp_path / 'detector.pth')
    assert str(load_weights(Detector(), tmp_path / 'detector.pth')) == '215/215 model tensors loaded'
    torch.save(Detector().backbone.state_dict(), tmp_path / 'backbone.pth')
    assert str(load_weights(Detector(), tmp_path / 'backbone.pth')) == '213/213 backbone tensors loaded'
    with pytest.raises(UserError, match=r'missing: head\.norm\.weight.*unknown: bbox_head\.weight'):
        load_weights(Classifier(), tmp_path / 'detector.pth')


def test_loading_logs_the_report(emo_1m, caplog, monkeypatch):
    said = []
    monkeypatch.setattr('emo_mm.weights.loading.print_log', lambda message, **_: said.append(message))
    load_backbone(EMO('1m'), emo_1m[1])
    assert said == [f'213/213 backbone tensors loaded, 4 classifier tensors not used from {emo_1m[1]}']


# -- What does not ---------------------------------------------------------------------------------------------------


def renamed_half(state_dict):
    return {key.replace('conv', 'konv') if i % 2 else key: value for i, (key, value) in enumerate(state_dict.items())}


def test_half_the_keys_renamed_is_an_error_that_names_them_and_changes_nothing(emo_1m, tmp_path):
    torch.save(renamed_half(emo_1m[0]), tmp_path / 'half.pth')
    backbone = EMO('1m')
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    with pytest.raises(UserError) as caught:
        load_backbone(backbone, tmp_path / 'half.pth')
    message = str(caught.value)
    assert '\n' not in message
    assert str(tmp_path / 'half.pth') in message
    assert 'missing: stem.' in message
    assert 'unknown: stage0.0.konvs.0.0.bias' in message
    assert_equal(backbone.state_dict(), before)


def test_not_strict_loads_what_matches_and_says_how_much(emo_1m, tmp_path):
    half = renamed_half(emo_1m[0])
    torch.save(half, tmp_path / 'half.pth')
    backbone = EMO('1m')
    report = load_backbone(backbone, tmp_path / 'half.pth', strict=False)
    matching = native({key: value for key, value in half.items() if key in emo_1m[0]})
    assert 0 < report.loaded == len(matching) < report.total == 213
    assert len(report.missing) == len(report.unexpected) == report.total - report.loaded
    assert not report.complete
    for name, value in matching.items():
        assert torch.equal(backbone.state_dict()[name], value)


@pytest.mark.parametrize(('file', 'model'), [('5m', '1m'), ('6m', '5m'), ('1m', '2m')])
def test_weights_of_another_size_say_whose_they_are(official, tmp_path, file, model):
    torch.save(official(f'emo_{file}'), tmp_path / 'net.pth')
    with pytest.raises(UserError, match=f'this file fits emo_{file}, the model is emo_{model}') as caught:
        load_backbone(EMO(model), tmp_path / 'net.pth')
    assert 'in the file' in str(caught.value)


def test_finding_the_size_draws_no_random_numbers(official, tmp_path):
    torch.save(official('emo_2m'), tmp_path / 'net.pth')
    backbone = EMO('1m')
    state = torch.random.get_rng_state()
    with pytest.raises(UserError):
        load_backbone(backbone, tmp_path / 'net.pth')
    assert torch.equal(torch.random.get_rng_state(), state)


def test_network_of_another_kind_does_not_fit(official, tmp_path):
    torch.save(official('emov2_1m'), tmp_path / 'net.pth')
    with pytest.raises(UserError, match=r'missing: .*unknown: '):
        load_backbone(EMO('1m'), tmp_path / 'net.pth')


def test_file_with_more_blocks_than_the_model_does_not_fit(emo_1m, tmp_path):
    more = emo_1m[0] | {'stage4.3.proj.conv.weight': torch.ones(1)}
    torch.save(more, tmp_path / 'net.pth')
    with pytest.raises(UserError, match=r'unknown: stages\.3\.3\.proj\.weight'):
        load_backbone(EMO('1m'), tmp_path / 'net.pth')


def test_whole_model_is_not_loaded_from_a_backbone(emo_1m):
    with pytest.raises(
        UserError, match=r'missing: bbox_head\.weight, bbox_head\.bias; this file holds a backbone only'
    ):
        load_model(Detector(), emo_1m[1])


def test_head_for_other_classes_does_not_fit(emo_1m):
    with pytest.raises(UserError, match=r'head\.fc\.weight \(1000x168 in the file, 6x168 here\)'):
        load_model(Classifier(classes=6), emo_1m[1])
    report = load_model(Classifier(classes=6), emo_1m[1], strict=False)
    assert (report.loaded, report.total) == (215, 217)


# -- Window sizes ----------------------------------------------------------------------------------------------------


@pytest.fixture
def published(official, tmp_path, monkeypatch):
    """A file that the table of published weights knows by its content."""
    path = tmp_path / 'any_name.pth'
    torch.save(official('emo_1m'), path)
    row = dataclasses.replace(registry.PUBLISHED['emo_1m'], git_blob_sha1=git_blob_sha1(path))
    monkeypatch.setitem(registry.PUBLISHED, 'emo_1m', row)
    return path


@pytest.mark.parametrize(
    ('window_size', 'differs'), [(7, None), ((1, 2, 7, 7), None), (16, '16'), ((7, 7, 7, 8), '7, 8'), (0, '0')]
)
def test_other_window_than_that_of_the_weights_is_warned_about(published, monkeypatch, window_size, differs):
    said = []
    monkeypatch.setattr('emo_mm.weights.loading.print_log', lambda message, **_: said.append(message))
    report = load_backbone(EMO('1m', window_size=window_size), published)
    assert report.complete
    if differs is None:
        assert report.window_note is None
    else:
        assert f'trained with window size 7, this model has {differs}:' in report.window_note
        assert said[-1] == report.window_note


def test_window_of_a_trained_model_is_read_from_its_config(tmp_path):
    cfg = "model = dict(type='X', backbone=dict(type='emo_mm.EMO', arch='1m', window_size=10))"
    torch.save({'state_dict': Detector().state_dict(), 'meta': {'cfg': cfg}}, tmp_path / 'epoch_1.pth')
    assert 'window size 10, this model has 7' in load_model(Detector(), tmp_path / 'epoch_1.pth').window_note
    assert load_backbone(EMO('1m', window_size=10), tmp_path / 'epoch_1.pth').window_note is None


# -- init_cfg --------------------------------------------------------------------------------------------------------


def test_pretrained_in_a_config_loads_through_the_report(emo_1m):
    state_dict, path = emo_1m
    model = Detector(init_cfg=dict(type='Pretrained', checkpoint=os.fspath(path)))
    model.init_weights()
    assert_equal(model.backbone.state_dict(), native(state_dict))


def test_pretrained_in_a_config_takes_a_published_name(published, cache):
    cache.mkdir(parents=True)
    published.rename(cache / registry.PUBLISHED['emo_1m'].filename)
    report = init_backbone_from(EMO('1m'), dict(type='Pretrained', checkpoint='emo_1m'))
    assert str(report) == '213/213 backbone tensors loaded, 4 classifier tensors not used'


def test_pretrained_in_a_config_that_does_not_fit_is_an_error(official, tmp_path):
    torch.save(official('emo_2m'), tmp_path / 'net.pth')
    model = Detector(init_cfg=dict(type='Pretrained', checkpoint=os.fspath(tmp_path / 'net.pth')))
    with pytest.raises(UserError, match='this file fits emo_2m'):
        model.init_weights()
    init_backbone_from(
        EMO('1m'), dict(type='Pretrained', checkpoint=os.fspath(tmp_path / 'net.pth'), strict=False, map_location='cpu')
    )


def test_prefix_in_a_config_chooses_the_part(emo_1m, tmp_path):
    first = native(emo_1m[0], 'student.')
    second = {key.replace('student.', 'teacher.'): value + 1 for key, value in first.items()}
    torch.save({'state_dict': first | second}, tmp_path / 'net.pth')
    backbone = EMO('1m')
    init_backbone_from(backbone, dict(type='Pretrained', checkpoint=os.fspath(tmp_path / 'net.pth'), prefix='teacher.'))
    assert_equal(backbone.state_dict(), {key.removeprefix('teacher.'): value for key, value in second.items()})
    with pytest.raises(UserError, match=r"starts with prefix 'backbone\.'; its names are student\.stem"):
        init_backbone_from(
            backbone, dict(type='Pretrained', checkpoint=os.fspath(tmp_path / 'net.pth'), prefix='backbone.')
        )


@pytest.mark.parametrize(
    ('init_cfg', 'reason'),
    [
        (dict(type='Pretrained'), 'needs checkpoint'),
        (dict(type='Pretrained', checkpoint='emo_1m', revise_keys=[]), r"unknown keys \['revise_keys'\]"),
    ],
)
def test_wrong_init_cfg_is_named(init_cfg, reason):
    with pytest.raises(ValueError, match=reason):
        init_backbone_from(EMO('1m'), init_cfg)
