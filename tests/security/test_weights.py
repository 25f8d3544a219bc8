"""Checkpoints from elsewhere: by whatever door they come in, nothing in them runs."""

from __future__ import annotations

import os
import pickle
import zipfile
from contextlib import suppress
from pathlib import Path

import hostile_files
import numpy as np
import pytest
import torch
from hostile_files import GADGETS, PLACES, TENSORS, Calls
from mmengine.config import Config
from mmengine.runner import CheckpointLoader
from PIL import Image

from emo_mm.config.build import build_from_config
from emo_mm.config.names import get_config
from emo_mm.data.shapes.generate import generate
from emo_mm.errors import UserError
from emo_mm.weights.untrusted.safe import safe_load

pytestmark = [
    pytest.mark.toolbox,
    pytest.mark.filterwarnings('ignore:Detected pickle protocol 4:UserWarning'),
    pytest.mark.filterwarnings('ignore:.*TorchScript:UserWarning'),
]

NAME = 'ssdlite_emo_1m_demo'


@pytest.fixture(autouse=True)
def marker(tmp_path) -> Path:
    """The file that appears where something was run."""
    path = tmp_path / 'was_here'
    yield path
    assert not path.exists()


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    return generate(tmp_path_factory.mktemp('data') / 'shapes', num_train=2, num_val=2).root


@pytest.fixture(scope='module')
def trained(tmp_path_factory) -> dict:
    """What MMEngine writes after an epoch, but for optimizer and records."""
    cfg = get_config(NAME)
    meta = {'cfg': cfg.pretty_text, 'experiment_name': f'{NAME}_20260101_000000', 'epoch': 1, 'iter': 1}
    hub = {'log_scalars': {}, 'runtime_info': {'cfg': cfg.pretty_text}, 'resumed_keys': {'cfg': True}}
    return {'state_dict': build_from_config(cfg).state_dict(), 'meta': meta, 'message_hub': hub}


def one_line(text: str) -> str:
    assert 'Traceback' not in text
    (line,) = [line for line in text.splitlines() if line.startswith('error: ')]
    return line


# -- Pickles ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('place', PLACES)
@pytest.mark.parametrize('gadget', GADGETS)
def test_no_call_in_a_pickle_is_made(tmp_path, marker, gadget, place):
    content = PLACES[place](GADGETS[gadget](marker))
    for write in (hostile_files.zipped, hostile_files.legacy, hostile_files.plain, hostile_files.tar):
        write(content, tmp_path / 'evil.pth')
        with pytest.raises(UserError) as caught:
            safe_load(tmp_path / 'evil.pth')
        assert '\n' not in str(caught.value)


@pytest.mark.parametrize('gadget', ['os.system', 'eval', 'pickle.loads', 'numpy.load'])
def test_the_same_files_do_harm_where_code_is_allowed(tmp_path, gadget):
    harm = tmp_path / 'harm'
    hostile_files.zipped(GADGETS[gadget](harm), tmp_path / 'evil.pth')
    torch.load(tmp_path / 'evil.pth', weights_only=False)
    assert harm.exists()


class Made:
    """Pickles as a call with a state, as NumPy's values do."""

    def __init__(self, *parts):
        self.parts = parts

    def __reduce__(self):
        return self.parts


PARTS = (3, '<', (np.dtype('f8'), (1000,)), None, None, -1, -1, 0)  # a number that claims to be a thousand
OBJECTS = (3, '|', None, None, None, -1, -1, 63)


@pytest.mark.parametrize(
    ('code', 'state', 'data'),
    [
        ('f8', PARTS, b'x' * 32),
        ('O8', OBJECTS, b'x' * 32),
        ('f8', (*OBJECTS[:2], None, ('a',), {'a': (np.dtype('f8'), 4096)}, -1, -1, 0), b'x' * 32),
        ('f8', (3, '<', None, None, None, -1, -1, 0), b'x' * 31),
        ('V8', (3, '|', None, None, None, 8, 1, 0), b'x' * 32),
    ],
)
def test_arrays_that_claim_other_memory_are_refused(tmp_path, code, state, data):
    reconstruct = np.array([1.0]).__reduce__()[0]
    array = Made(
        reconstruct, (np.ndarray, (0,), b'b'), (1, (4,), Made(np.dtype, (code, False, True), state), False, data)
    )
    torch.save({'state_dict': TENSORS, 'meta': {'x': array}}, tmp_path / 'evil.pth')
    with pytest.raises(UserError, match='refused'):
        safe_load(tmp_path / 'evil.pth')


def test_arrays_are_written_into_the_next_checkpoint_as_plain_ones(tmp_path):
    values = {
        'f': np.arange(3.0),
        'i': np.arange(4, dtype='>i2').reshape(2, 2),
        's': np.array(['ab', 'c']),
        'n': np.int64(3),
    }
    torch.save({'state_dict': TENSORS, 'meta': values}, tmp_path / 'first.pth')
    torch.save(safe_load(tmp_path / 'first.pth'), tmp_path / 'second.pth')
    meta = torch.load(tmp_path / 'second.pth', weights_only=False)['meta']
    for key, value in values.items():
        assert type(meta[key]) is type(value)
        np.testing.assert_array_equal(meta[key], value)


# -- Doors -----------------------------------------------------------------------------------------------------------


def hostile(path: Path, marker: Path) -> Path:
    """A file that calls at many places."""
    evil = [make(marker) for make in GADGETS.values()]
    content = {'state_dict': {**TENSORS, 'x': evil}, 'meta': {'epoch': 1, 'iter': 1, 'x': evil}, 'message_hub': evil}
    torch.save(content, path)
    return path


DOORS = {
    'convert': ('weights', 'convert', 'FILE'),
    'predict, as model': ('predict', 'IMAGE', '--model', 'FILE'),
    'predict, as weights': ('predict', 'IMAGE', '--model', NAME, '--weights', 'FILE'),
    'export, as model': ('export', 'FILE', '--format', 'torch'),
    'export, as weights': ('export', NAME, '--weights', 'FILE', '--format', 'torch'),
    'test': ('test', NAME, 'FILE', '--data-root', 'DATA'),
    'train from it': ('train', NAME, '--weights', 'FILE', '--data-root', 'DATA'),
    'resume': ('train', NAME, '--resume', 'FILE', '--data-root', 'DATA'),
    'load_from': ('train', NAME, '--weights', 'none', '--cfg-options', 'load_from=FILE', '--data-root', 'DATA'),
}


SLOW_DOORS = ('test', 'train from it', 'load_from')  # as 'resume', which stays in the short version


@pytest.mark.parametrize(
    'door', [pytest.param(door, marks=pytest.mark.slow if door in SLOW_DOORS else ()) for door in DOORS]
)
def test_every_command_refuses_it_in_one_line(tmp_path, marker, shapes, run_cli, monkeypatch, door):
    monkeypatch.chdir(tmp_path)
    Image.new('RGB', (32, 32)).save('image.png')
    known = {'FILE': str(hostile(tmp_path / 'evil.pth', marker)), 'IMAGE': 'image.png', 'DATA': str(shapes)}
    args = [known.get(word, word.replace('=FILE', f'={known["FILE"]}')) for word in DOORS[door]]
    args += ['--workers', '0', '--work-dir', 'work'] if args[0] in ('train', 'test') else []
    done = run_cli(*args)
    assert done.code == 1
    assert 'nothing in it was run' in one_line(done.err)


@pytest.mark.parametrize('scheme', ['', 'torchvision://', 'open-mmlab://', 'mmcls://', 's3://', 'petrel://', 'pavi://'])
def test_no_scheme_of_mmengine_reads_weights_otherwise(tmp_path, marker, monkeypatch, scheme):
    from mmengine.runner import checkpoint

    import emo_mm.weights.enable_safe_loading  # noqa: F401

    evil = hostile(tmp_path / 'evil.pth', marker)
    for table in ('get_torchvision_models', 'get_external_models', 'get_mmcls_models'):
        monkeypatch.setattr(checkpoint, table, lambda: {'net': 'https://host.invalid/net.pth'})
    monkeypatch.setattr('emo_mm.weights.toolbox.resolve_weights', lambda spec: evil)
    with pytest.raises(UserError, match=r'nothing in it was run|read from files'):
        CheckpointLoader.load_checkpoint(f'{scheme}net', 'cpu')


# -- Configs in checkpoints ------------------------------------------------------------------------------------------


def programs(marker: Path) -> dict[str, str]:
    touch = f'__import__("os").system("touch {marker}")'
    return {
        'statement': f'{touch}\n',
        'value': f'x = {touch}\n',
        'base': f'_base_ = [{touch}]\n',
        'import': 'custom_imports = dict(imports=["this"])\n',
        'template': '{{$HOME:x}} = 1\n',
    }


@pytest.mark.parametrize('kind', ['statement', 'value', 'base'])
def test_mmengine_would_run_the_config_of_a_checkpoint(tmp_path, kind):
    harm = tmp_path / 'harm'
    with suppress(Exception):  # what comes after the harm is done
        Config.fromstring(programs(harm)[kind], file_format='.py')
    assert harm.exists()


def test_resuming_runs_no_config_of_the_checkpoint(tmp_path, marker, trained, shapes, run_cli):
    program = programs(marker)['base']
    optimizer = {'state': {}, 'param_groups': []}
    meta = {**trained['meta'], 'config': program, 'cfg': program}
    evil = {**trained, 'meta': meta, 'optimizer': optimizer, 'param_schedulers': []}
    torch.save(evil, tmp_path / 'evil.pth')
    work = tmp_path / 'work'
    args = ('--data-root', shapes, '--workers', '0', '--work-dir', work)
    try:
        done = run_cli('train', NAME, '--resume', tmp_path / 'evil.pth', '--epochs', '1', *args)
        said = done.out + done.err
    except Exception as error:  # the state of the optimizer does not fit; MMEngine has come that far
        said = str(error)
    logs = ''.join(path.read_text() for path in work.rglob('*.log'))
    assert "meta['config']" in said + logs


@pytest.mark.parametrize('kind', ['statement', 'value', 'base', 'import', 'template'])
def test_inferencers_run_no_config_of_the_checkpoint(tmp_path, marker, trained, kind):
    from mmdet.apis import DetInferencer

    import emo_mm.weights.enable_safe_loading  # noqa: F401

    program = trained['meta']['cfg'] + programs(marker)[kind]
    hub = {**trained['message_hub'], 'runtime_info': {'cfg': program}}
    torch.save({**trained, 'meta': {**trained['meta'], 'cfg': program}, 'message_hub': hub}, tmp_path / 'evil.pth')
    with pytest.raises(ValueError, match='Cannot find the config'):
        DetInferencer(weights=str(tmp_path / 'evil.pth'), device='cpu')


def test_inferencers_take_the_config_of_our_checkpoints(tmp_path, trained):
    from mmdet.apis import DetInferencer

    import emo_mm.weights.enable_safe_loading  # noqa: F401

    torch.save(trained, tmp_path / 'epoch_1.pth')
    inferencer = DetInferencer(weights=str(tmp_path / 'epoch_1.pth'), device='cpu', show_progress=False)
    assert type(inferencer.model.backbone).__name__ == 'EMO'


@pytest.mark.parametrize('command', [('predict', 'image.png', '--model'), ('export', '--format', 'torch')])
@pytest.mark.parametrize(
    'part',
    [
        'dict(type="mmengine.load", file="EVIL", file_format="pkl")',
        'dict(type="mmengine.fileio.load", file="EVIL", file_format="pkl")',
        'dict(type="os.system", command="touch MARKER")',
        'dict(type="emo_mm.DeployedModel", path="x.onnx")',
        '__import__("os").system("touch MARKER")',
    ],
)
def test_types_in_a_checkpoint_that_are_no_parts_of_ours_are_not_built(
    tmp_path, marker, trained, run_cli, monkeypatch, command, part
):
    monkeypatch.chdir(tmp_path)
    Image.new('RGB', (32, 32)).save('image.png')
    (tmp_path / 'evil.pkl').write_bytes(pickle.dumps(Calls(os.system, f'touch {marker}')))
    part = part.replace('EVIL', str(tmp_path / 'evil.pkl')).replace('MARKER', str(marker))
    text = f"default_scope = 'mmdet'\ntest_dataloader = dict()\nmodel = dict(type='SingleStageDetector', neck={part})\n"
    torch.save({**trained, 'meta': {'cfg': text}}, tmp_path / 'evil.pth')
    done = run_cli(*command, tmp_path / 'evil.pth')
    assert done.code == 1
    assert 'a config in its place, and --weights' in one_line(done.err)


def test_such_a_type_would_have_been_called(tmp_path):
    from mmengine.registry import MODELS

    harm = tmp_path / 'harm'
    (tmp_path / 'evil.pkl').write_bytes(pickle.dumps(Calls(os.system, f'touch {harm}')))
    with pytest.raises(AttributeError):  # of what the call gave
        MODELS.build(dict(type='mmengine.load', file=str(tmp_path / 'evil.pkl'), file_format='pkl')).eval()
    assert harm.exists()


# -- Bombs -----------------------------------------------------------------------------------------------------------


def compressed(path):
    torch.save({'state_dict': {'x': torch.zeros(1_000_000)}}, path.with_suffix('.big'))
    with (
        zipfile.ZipFile(path.with_suffix('.big')) as source,
        zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name))


def repeated(path):
    torch.save({'state_dict': {'x': torch.zeros(1).expand(10**12)}}, path)


def many_names(path):
    tensor = torch.zeros(100_000)
    torch.save({'state_dict': {str(k): tensor for k in range(1000)}}, path)


def nested(path):
    value = [0]
    for _ in range(50):
        value = [value, value]
    torch.save({'state_dict': TENSORS, 'meta': {'dataset_meta': {'classes': value}}}, path)


def deep(path):
    value = [0]
    for _ in range(300):
        value = [value]
    torch.save({'state_dict': TENSORS, 'meta': value}, path)


def endless(path):
    value = [0]
    value.append(value)
    torch.save({'state_dict': TENSORS, 'meta': value}, path)


def sparse(path):
    torch.save({'state_dict': {'x': torch.eye(3).to_sparse()}}, path)


@pytest.mark.parametrize('write', [compressed, repeated, many_names, nested, deep, endless, sparse])
def test_files_that_claim_more_than_they_hold_are_refused(tmp_path, run_cli, write):
    write(tmp_path / 'bomb.pth')
    done = run_cli('weights', 'convert', tmp_path / 'bomb.pth', '--out', tmp_path)
    assert done.code == 1
    assert 'is refused' in one_line(done.err)


def test_a_config_that_asks_for_more_than_the_file_holds_is_not_built(tmp_path, trained, run_cli, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new('RGB', (32, 32)).save('image.png')
    text = trained['meta']['cfg'].replace('num_classes=4', 'num_classes=40000000')
    assert text != trained['meta']['cfg']
    torch.save({**trained, 'meta': {'cfg': text}}, 'evil.pth')
    done = run_cli('predict', 'image.png', '--model', 'evil.pth')
    assert done.code == 1
    assert 'cannot be built' in one_line(done.err)
