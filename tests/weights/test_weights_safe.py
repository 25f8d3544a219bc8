from __future__ import annotations

import argparse
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from safetensors.torch import save_file

from emo_mm.errors import UserError
from emo_mm.weights.checkpoint import read_checkpoint, window_size_in_config
from emo_mm.weights.toolbox import use_safe_loading
from emo_mm.weights.untrusted.safe import safe_load

pytestmark = pytest.mark.toolbox

TENSORS = {'stem.conv.weight': torch.arange(6.0).reshape(2, 3), 'stem.conv.bias': torch.ones(2)}


class Calls:
    """Pickles as a call of any function, as an attacker would write it."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


def assert_tensors(checkpoint, expected=TENSORS):
    assert checkpoint.state_dict.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(checkpoint.state_dict[key], value)


# -- Layouts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('layout', ['flat', 'net_E', 'net', 'state_dict', 'model'])
@pytest.mark.parametrize('zipped', [True, False])
def test_every_layout_is_read(tmp_path, layout, zipped):
    content = TENSORS if layout == 'flat' else {layout: TENSORS, 'epoch': 3}
    torch.save(content, tmp_path / 'net.pth', _use_new_zipfile_serialization=zipped)
    checkpoint = read_checkpoint(tmp_path / 'net.pth')
    assert checkpoint.layout == layout
    assert_tensors(checkpoint)


def test_moving_average_is_preferred_and_an_absent_one_is_not(tmp_path):
    other = {key: -value for key, value in TENSORS.items()}
    torch.save({'net': other, 'net_E': TENSORS}, tmp_path / 'both.pth')
    assert_tensors(read_checkpoint(tmp_path / 'both.pth'))
    torch.save({'net': TENSORS, 'net_E': None}, tmp_path / 'one.pth')
    assert_tensors(read_checkpoint(tmp_path / 'one.pth'))


def test_prefix_of_a_data_parallel_wrapper_is_removed(tmp_path):
    torch.save({'state_dict': {f'module.{key}': value for key, value in TENSORS.items()}}, tmp_path / 'net.pth')
    assert_tensors(read_checkpoint(tmp_path / 'net.pth'))


def test_kind_is_told_by_content_not_by_name(tmp_path):
    save_file(TENSORS, tmp_path / 'net.pth')
    torch.save(TENSORS, tmp_path / 'net.safetensors')
    assert_tensors(read_checkpoint(tmp_path / 'net.pth'))
    assert_tensors(read_checkpoint(tmp_path / 'net.safetensors'))


def test_data_of_mmengine_checkpoints_is_read(tmp_path):
    history = HistoryBuffer([1.0, 2.0], [1, 1])
    content = {
        'state_dict': OrderedDict(TENSORS),
        'meta': {
            'dataset_meta': ConfigDict(classes=('red', 'white'), palette=[(1, 2, 3)]),
            'epoch': np.int64(3),
            'best': np.float32(0.5),
            'done': np.bool_(True),
            'names': np.array(['a', 'b']),
            'set': {1, 2},
        },
        'message_hub': {'log_scalars': OrderedDict(loss=history), 'runtime_info': OrderedDict(x=np.arange(3))},
        'args': argparse.Namespace(lr=0.1),
    }
    torch.save(content, tmp_path / 'epoch_3.pth')
    loaded = safe_load(tmp_path / 'epoch_3.pth')
    assert loaded['message_hub']['log_scalars']['loss'].mean() == 1.5
    assert loaded['args'].lr == 0.1
    meta = read_checkpoint(tmp_path / 'epoch_3.pth').meta
    assert meta['dataset_meta']['classes'] == ('red', 'white')
    assert (meta['epoch'], meta['best'], meta['done'], meta['set']) == (3, 0.5, True, {1, 2})
    assert meta['names'].tolist() == ['a', 'b']


@pytest.mark.parametrize(('mine', 'theirs'), [('numpy._core', 'numpy.core'), ('numpy.core', 'numpy._core')])
def test_numbers_of_either_numpy_are_read(tmp_path, mine, theirs):
    torch.save({'state_dict': TENSORS, 'meta': {'best': np.float64(0.5)}}, tmp_path / 'here.pth')
    # The same file as the other version of NumPy writes it: pickle protocol 2 has the module's name in plain text.
    with zipfile.ZipFile(tmp_path / 'here.pth') as source, zipfile.ZipFile(tmp_path / 'there.pth', 'w') as target:
        for name in source.namelist():
            target.writestr(name, source.read(name).replace(f'c{mine}.'.encode(), f'c{theirs}.'.encode()))
    assert read_checkpoint(tmp_path / 'there.pth').meta['best'] == 0.5


# -- Refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('function', [os.system, exec, eval, print, open], ids=lambda function: function.__name__)
@pytest.mark.filterwarnings('ignore:Detected pickle protocol 4:UserWarning')
@pytest.mark.parametrize('place', ['state_dict', 'meta', 'whole file', 'plain pickle', 'old format'])
def test_malicious_pickle_is_refused_and_not_run(tmp_path, function, place):
    marker = tmp_path / 'was_here'
    args = {
        'system': (f'touch {marker}',),
        'exec': (f'open({str(marker)!r}, "w")',),
        'eval': (f'open({str(marker)!r}, "w")',),
        'print': (str(marker),),
        'open': (str(marker), 'w'),
    }[function.__name__]
    evil = Calls(function, *args)
    path = tmp_path / 'evil.pth'
    if place == 'plain pickle':
        path.write_bytes(pickle.dumps({'state_dict': evil}, protocol=4))
    elif place == 'whole file':
        torch.save(evil, path)
    elif place == 'old format':
        torch.save({**TENSORS, 'x': evil}, path, _use_new_zipfile_serialization=False)
    else:
        content = {'state_dict': dict(TENSORS), 'meta': {}}
        content[place]['x'] = evil
        torch.save(content, path)
    with pytest.raises(UserError) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert str(path) in message
    assert '\n' not in message
    assert not marker.exists()
    if place != 'plain pickle':
        assert 'nothing in it was run' in message
        assert function.__name__ in message


def test_refused_file_would_have_run(tmp_path):
    """The control of the test above: the same file does harm where code is allowed."""
    marker = tmp_path / 'was_here'
    torch.save(Calls(os.system, f'touch {marker}'), tmp_path / 'evil.pth')
    torch.load(tmp_path / 'evil.pth', weights_only=False)
    assert marker.exists()


@pytest.mark.parametrize('args', [(HistoryBuffer, '__init__'), (HistoryBuffer, '__module__'), (set, 'pop')])
def test_getattr_reaches_nothing_but_the_methods_of_a_history(tmp_path, args):
    path = tmp_path / 'evil.pth'
    torch.save({'state_dict': TENSORS, 'x': Calls(getattr, *args)}, path)
    with pytest.raises(UserError, match='nothing in it was run'):
        read_checkpoint(path)


def test_environment_cannot_switch_the_refusal_off(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    marker = tmp_path / 'was_here'
    torch.save(Calls(os.system, f'touch {marker}'), tmp_path / 'evil.pth')
    with pytest.raises(UserError, match='system'):
        read_checkpoint(tmp_path / 'evil.pth')
    assert not marker.exists()


def make_empty(path: Path):
    path.write_bytes(b'')


def make_page(path: Path):
    path.write_text('\n<!DOCTYPE html><html><body>Not found</body></html>')


def make_text(path: Path):
    path.write_text('see the README for the weights')


def make_lfs_pointer(path: Path):
    path.write_text('version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n')


def make_truncated(path: Path):
    torch.save(TENSORS, path)
    path.write_bytes(path.read_bytes()[:-200])


def make_truncated_old(path: Path):
    torch.save(TENSORS, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:-20])


def make_truncated_safetensors(path: Path):
    save_file(TENSORS, path)
    path.write_bytes(path.read_bytes()[:-8])


def make_zip(path: Path):
    with zipfile.ZipFile(path, 'w') as file:
        file.writestr('picture.txt', 'x')


def make_torchscript(path: Path):
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), path)


def make_folder(path: Path):
    path.mkdir()


@pytest.mark.parametrize(
    ('make', 'reason'),
    [
        (make_empty, 'is empty'),
        (make_page, 'web page'),
        (make_text, 'neither a PyTorch nor a safetensors file'),
        (make_lfs_pointer, 'git lfs pull'),
        (make_truncated, 'damaged'),
        (make_truncated_old, 'damaged'),
        (make_truncated_safetensors, 'damaged'),
        (make_zip, 'damaged or not a checkpoint'),
        (make_torchscript, 'TorchScript archive, which may run code'),
        (make_folder, 'is a folder'),
    ],
)
@pytest.mark.filterwarnings('ignore:.*TorchScript:UserWarning')
def test_what_is_no_checkpoint_is_one_clear_line(tmp_path, make, reason):
    path = tmp_path / 'net.pth'
    make(path)
    with pytest.raises(UserError, match=reason) as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        ([1, 2], 'holds a list'),
        ({}, 'no tensors'),
        ({'weights': TENSORS}, "'weights' holds a dict"),
        ({'state_dict': {'a': 1}}, "'a' holds a int"),
        ({'state_dict': {3: torch.ones(1)}}, '3 holds a Tensor'),
    ],
)
def test_unknown_layout_is_named(tmp_path, content, reason):
    torch.save(content, tmp_path / 'net.pth')
    with pytest.raises(UserError, match=reason):
        read_checkpoint(tmp_path / 'net.pth')


# -- Window size in a config's text ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('text', 'size'),
    [
        ("model = dict(type='X', backbone=dict(type='emo_mm.EMO', arch='5m', window_size=16))", 16),
        ("model = dict(backbone=dict(type='EMO', window_size=(7, 7, 8, 9)))", [7, 7, 8, 9]),
        ("model = dict(backbone=dict(type='emo_mm.EMO'))", 7),
        ("model = dict(backbone=dict(type='ResNet', window_size=3))", None),
        ("model = dict(backbone=dict(type='emo_mm.EMO', window_size=f()))", None),
        ('model = (', None),
        (None, None),
    ],
)
def test_window_size_is_read_from_a_config_without_running_it(text, size):
    assert window_size_in_config(text) == size


# -- MMEngine --------------------------------------------------------------------------------------------------------


@pytest.fixture
def safe_mmengine(monkeypatch):
    monkeypatch.setattr(CheckpointLoader, '_schemes', CheckpointLoader._schemes)
    use_safe_loading()


@pytest.mark.usefixtures('safe_mmengine')
def test_mmengine_reads_files_as_safely(tmp_path):
    marker = tmp_path / 'was_here'
    torch.save({'state_dict': Calls(os.system, f'touch {marker}')}, tmp_path / 'evil.pth')
    with pytest.raises(UserError, match='system'):
        CheckpointLoader.load_checkpoint(str(tmp_path / 'evil.pth'), 'cpu')
    assert not marker.exists()


@pytest.mark.usefixtures('safe_mmengine')
def test_mmengine_reads_its_own_checkpoints_and_safetensors(tmp_path):
    content = {'state_dict': TENSORS, 'message_hub': {'log_scalars': {'loss': HistoryBuffer([1.0], [1])}}}
    torch.save(content, tmp_path / 'epoch_1.pth')
    save_file(TENSORS, tmp_path / 'net.safetensors')
    for name in ('epoch_1.pth', 'net.safetensors'):
        loaded = CheckpointLoader.load_checkpoint(str(tmp_path / name), map_location='cpu')
        assert loaded['state_dict'].keys() == TENSORS.keys()
    assert CheckpointLoader.load_checkpoint(str(tmp_path / 'epoch_1.pth'), lambda storage, _: storage)
    meta = CheckpointLoader.load_checkpoint(str(tmp_path / 'epoch_1.pth'), map_location='meta')
    assert meta['state_dict']['stem.conv.bias'].is_meta
