"""``emo_mm.load_predictor`` opens what ``emo-mm predict --model`` opens, and says why it cannot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import emo_mm
from emo_mm.errors import UserError
from emo_mm.runtime import Classification, Predictor

pytestmark = pytest.mark.toolbox

PHOTO = np.zeros((64, 48, 3), np.uint8)


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory) -> str:
    """A classifier as our training saves it, with random weights."""
    import torch

    from emo_mm.config.build import build_from_config

    torch.manual_seed(0)
    cfg = emo_mm.get_config('emo_1m_demo')
    meta = {'cfg': cfg.pretty_text, 'experiment_name': 'emo_1m_demo_20260101_000000'}
    path = tmp_path_factory.mktemp('trained') / 'classifier.pth'
    torch.save({'state_dict': build_from_config(cfg).state_dict(), 'meta': meta}, path)
    return str(path)


def deployed(folder: Path) -> Path:
    pytest.importorskip('onnxruntime')
    from deployed_files import write_onnx
    from descriptions import classifier

    return write_onnx(folder / 'cls.onnx', classifier())


def test_it_is_a_name_of_the_package():
    from emo_mm.predict.predictor import load_predictor

    assert emo_mm.load_predictor is load_predictor
    assert set(emo_mm.__all__) >= {'list_models', 'get_config', 'build_model', 'load_predictor'}


def test_an_exported_file_runs_in_its_own_runtime(tmp_path):
    path = deployed(tmp_path)
    found = emo_mm.load_predictor(path)(PHOTO)
    assert isinstance(found, Classification)
    np.testing.assert_array_equal(found.probabilities, Predictor(path)(PHOTO).probabilities)


def test_a_checkpoint_alone_and_a_config_with_it_predict_the_same(checkpoint):
    alone = emo_mm.load_predictor(checkpoint, device='cpu')
    with_config = emo_mm.load_predictor('emo_1m_demo', checkpoint, batch_size=2, device='cpu')
    assert with_config.batch_size == 2
    one, other = alone(PHOTO).probabilities, with_config(PHOTO).probabilities
    assert one.sum() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_an_address_on_the_hub_is_downloaded_first(checkpoint, monkeypatch):
    from emo_mm.weights import hub

    asked = []
    monkeypatch.setattr(hub, 'resolve_hub', lambda address: asked.append(address) or Path(checkpoint))
    emo_mm.load_predictor('hf://me/mine', device='cpu')
    assert asked == ['hf://me/mine']


def test_the_command_and_the_function_open_a_model_in_one_place(checkpoint, run_cli, tmp_path, monkeypatch):
    from emo_mm.predict import run

    Image.fromarray(PHOTO).save(tmp_path / 'a.png')
    asked = {}

    def load(*args, **kwargs):
        asked.update(args=args, kwargs=kwargs)
        return emo_mm.load_predictor(*args, **kwargs)

    monkeypatch.setattr(run, 'load_predictor', load)
    assert run_cli('predict', tmp_path / 'a.png', '--model', checkpoint, '--batch', '2').code == 0
    assert asked == {'args': (checkpoint, None, 2), 'kwargs': {'compiled': False}}  # the threshold follows the model


@pytest.mark.parametrize(
    ('options', 'said'),
    [({'weights': 'x.pth'}, '--weights: '), ({'compiled': True}, '--compile: '), ({'device': 'cuda'}, 'device: ')],
)
def test_options_of_pytorch_are_refused_for_an_exported_file(options, said, tmp_path):
    with pytest.raises(UserError, match=f'^{said}.*cls.onnx is a deployed file, to which it does not apply'):
        emo_mm.load_predictor(deployed(tmp_path), **options)


def test_what_cannot_be_loaded_is_told(tmp_path):
    with pytest.raises(UserError, match='did you mean emo_1m_imagenet'):
        emo_mm.load_predictor('emo_1m_imagenett')
    (tmp_path / 'x.engine').write_bytes(b'there')
    with pytest.raises(UserError, match=r'of files, \.onnx'):
        emo_mm.load_predictor(tmp_path / 'x.engine')
    with pytest.raises(ValueError, match='batch_size is 0'):
        emo_mm.load_predictor(deployed(tmp_path), batch_size=0)
