from __future__ import annotations

import json

import golden
import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn

from emo_mm.errors import UserError
from emo_mm.models.emo import EMO
from emo_mm.weights.checkpoint import content_sha256, read_checkpoint
from emo_mm.weights.conversion import convert
from emo_mm.weights.loading import load_backbone, load_model

pytestmark = pytest.mark.toolbox

CONFIG = """model = dict(
    backbone=dict(arch='1m', type='emo_mm.EMO', window_size=10), type='X')
load_from = '/home/somebody/private.pth'
work_dir = (
    '/home/somebody/work_dirs')
max_epochs = 3
"""


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = EMO('1m')
        self.bbox_head = nn.Conv2d(168, 4, 1)


@pytest.fixture
def trained(tmp_path):
    """A checkpoint as MMEngine leaves it after training."""
    model = Detector()
    content = {
        'state_dict': model.state_dict(),
        'optimizer': {'state': {0: torch.ones(100_000)}},
        'message_hub': {'log_scalars': {}},
        'meta': {
            'cfg': CONFIG,
            'epoch': np.int64(3),
            'experiment_name': 'ssdlite_emo_1m_demo_20250102_030405',
            'dataset_meta': {'classes': ('red', 'white'), 'palette': np.array([[1, 2, 3], [4, 5, 6]]), 'other': object},
        },
    }
    del content['meta']['dataset_meta']['other']
    torch.save(content, tmp_path / 'epoch_3.pth')
    return model, tmp_path / 'epoch_3.pth'


def assert_equal(state_dict, expected):
    assert state_dict.keys() == expected.keys()
    for key, value in expected.items():
        assert state_dict[key].dtype == value.dtype, key
        assert torch.equal(state_dict[key], value), key


@pytest.mark.parametrize('name', ['emo_1m', 'emo_2m', 'emo_5m', 'emo_6m', 'emov2_1m', 'emov2_5m'])
@pytest.mark.parametrize('fmt', ['safetensors', 'pth'])
def test_official_file_survives_the_way_there_and_back(official, tmp_path, name, fmt):
    state_dict = official(name)
    torch.save({'net': {}, 'net_E': state_dict}, tmp_path / 'net.pth')
    native = convert(tmp_path / 'net.pth', tmp_path / 'out', fmt=fmt)
    assert not set(read_checkpoint(native).state_dict) & set(state_dict)
    back = convert(native, tmp_path / 'out', to='official', fmt=fmt)
    assert_equal(read_checkpoint(back).state_dict, state_dict)
    load_backbone(golden.backbone(name), native)


def test_official_pth_is_a_plain_dict_as_published(official, tmp_path):
    torch.save(official('emo_1m'), tmp_path / 'net.pth')
    back = convert(convert(tmp_path / 'net.pth', tmp_path), tmp_path, to='official', fmt='pth')
    assert_equal(torch.load(back, weights_only=True), official('emo_1m'))


@pytest.mark.parametrize('to', ['native', 'official'])
@pytest.mark.parametrize('fmt', ['safetensors', 'pth'])
def test_trained_model_is_stripped_and_loads_whole(trained, tmp_path, to, fmt):
    model, path = trained
    shared = convert(path, tmp_path / 'out', to, fmt)
    assert shared.stat().st_size < path.stat().st_size
    fresh = Detector()
    assert str(load_model(fresh, shared)) == '215/215 model tensors loaded'
    assert_equal(fresh.state_dict(), model.state_dict())


@pytest.mark.parametrize('fmt', ['safetensors', 'pth'])
def test_classes_config_window_and_origin_go_along_and_nothing_private(trained, tmp_path, fmt):
    shared = convert(trained[1], tmp_path / 'out', fmt=fmt)
    checkpoint = read_checkpoint(shared)
    assert checkpoint.meta['dataset_meta'] == {'classes': ['red', 'white'], 'palette': [[1, 2, 3], [4, 5, 6]]}
    assert checkpoint.window_size == 10
    assert checkpoint.meta['cfg'] == (
        "model = dict(\n    backbone=dict(arch='1m', type='emo_mm.EMO', window_size=10), type='X')\nmax_epochs = 3\n"
    )
    assert checkpoint.meta['emo_mm']['origin'] == {
        'name': 'epoch_3.pth',
        'experiment_name': 'ssdlite_emo_1m_demo_20250102_030405',
        'epoch': 3,
    }
    assert b'somebody' not in shared.read_bytes()
    again = read_checkpoint(convert(shared, tmp_path / 'again', to='official'))
    assert again.meta['emo_mm']['origin'] == checkpoint.meta['emo_mm']['origin']
    assert again.meta['dataset_meta'] == checkpoint.meta['dataset_meta']


def test_safetensors_header_is_json_that_any_reader_has(trained, tmp_path):
    with safe_open(convert(trained[1], tmp_path), framework='pt') as file:
        metadata = file.metadata()
    assert metadata['format'] == 'pt'
    assert json.loads(metadata['emo_mm'])['dataset_meta']['classes'] == ['red', 'white']


def test_name_says_whence_and_what(trained, tmp_path):
    shared = convert(trained[1], tmp_path)
    sha256 = content_sha256(read_checkpoint(shared).state_dict)
    assert shared.name == f'ssdlite_emo_1m_demo_epoch_3_native-{sha256[:8]}.safetensors'
    assert convert(trained[1], tmp_path, fmt='pth').name == shared.with_suffix('.pth').name
    assert convert(shared, tmp_path, to='official').name.startswith('ssdlite_emo_1m_demo_epoch_3_official-')


def test_content_hash_is_of_names_types_shapes_and_values_alone():
    tensors = {'a': torch.arange(4.0), 'b': torch.tensor(3), 'c': torch.ones(2, dtype=torch.bfloat16)}
    base = content_sha256(tensors)
    assert content_sha256(dict(reversed(tensors.items()))) == base
    assert content_sha256({**tensors, 'a': torch.arange(8.0)[:4]}) == base
    assert content_sha256({**tensors, 'a': torch.arange(4.0).reshape(2, 2)}) != base
    assert content_sha256({**tensors, 'a': torch.arange(4).int()}) != base
    assert content_sha256({**tensors, 'b': torch.tensor(4)}) != base
    assert content_sha256({'a': tensors['a'], 'b': tensors['b'], 'd': tensors['c']}) != base


def test_flipped_bit_in_a_converted_file_is_found(trained, tmp_path):
    shared = convert(trained[1], tmp_path)
    content = bytearray(shared.read_bytes())
    content[-1] ^= 1
    shared.write_bytes(content)
    with pytest.raises(UserError, match='do not match its content hash'):
        read_checkpoint(shared)


def test_tensors_in_channels_last_or_shared_memory_are_written_plainly(tmp_path):
    model = Detector().to(memory_format=torch.channels_last)
    state_dict = model.state_dict()
    state_dict['backbone.stem.conv.bias'] = torch.arange(100.0)[:24]
    state_dict['bbox_head.bias'] = state_dict['backbone.stem.conv.bias'][:4]
    torch.save({'state_dict': state_dict}, tmp_path / 'net.pth')
    shared = read_checkpoint(convert(tmp_path / 'net.pth', tmp_path))
    assert_equal(shared.state_dict, state_dict)
    assert all(value.is_contiguous() for value in shared.state_dict.values())


def test_other_networks_are_refused(tmp_path):
    torch.save({'state_dict': {'backbone.layer1.0.conv1.weight': torch.ones(1)}}, tmp_path / 'resnet.pth')
    with pytest.raises(UserError, match=r'not of an EMO network: it holds backbone\.layer1\.0\.conv1\.weight'):
        convert(tmp_path / 'resnet.pth', tmp_path)


def test_wrong_arguments_are_named(trained, tmp_path):
    with pytest.raises(ValueError, match="to is 'timm'; it must be one of native, official"):
        convert(trained[1], tmp_path, to='timm')
    with pytest.raises(ValueError, match="fmt is 'onnx'; it must be one of safetensors, pth"):
        convert(trained[1], tmp_path, fmt='onnx')


def test_unwritable_folder_is_named_and_nothing_is_left(trained, tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match='cannot be written'):
        convert(trained[1], tmp_path / 'file' / 'out')


def test_no_partial_file_is_left(trained, tmp_path):
    shared = convert(trained[1], tmp_path / 'out')
    assert list((tmp_path / 'out').iterdir()) == [shared]
