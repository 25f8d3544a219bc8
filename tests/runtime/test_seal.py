"""A deployed file that was changed or cut off is told by its checksum, before a runtime reads it."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from deployed_files import write_onnx
from descriptions import classifier

from emo_mm.cli import main
from emo_mm.errors import UserError
from emo_mm.runtime import Predictor
from emo_mm.runtime.seal import check_seal, seal


def test_a_sealed_file_stays_valid_for_others(tmp_path):
    onnx = pytest.importorskip('onnx')
    path = write_onnx(tmp_path / 'cls.onnx', classifier())
    assert {entry.key for entry in onnx.load(path).metadata_props} == {'emo_mm', 'emo_mm_sha256'}


def test_sealing_again_replaces_the_seal(tmp_path):
    path = write_onnx(tmp_path / 'cls.onnx', classifier())
    before = path.read_bytes()
    seal(path)
    assert path.read_bytes() == before
    check_seal(path)


@pytest.mark.parametrize('part', [0.0, 0.1, 0.5, 0.9, 0.999])
def test_one_changed_byte_is_told(part, tmp_path):
    path = write_onnx(tmp_path / 'cls.onnx', classifier())
    content = bytearray(path.read_bytes())
    content[int(part * len(content))] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r'cls\.onnx: is (damaged|cut off)'):
        Predictor(path)


def test_a_file_that_is_cut_off_is_told(tmp_path):
    path = write_onnx(tmp_path / 'cls.onnx', classifier())
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match='is cut off, or was not written by emo-mm export') as error:
        Predictor(path)
    assert '\n' not in str(error.value)


def test_a_file_changed_on_purpose_is_taken_when_it_is_sealed_again(tmp_path):
    onnx = pytest.importorskip('onnx')
    path = write_onnx(tmp_path / 'cls.onnx', classifier())
    model = onnx.load(path)
    model.doc_string = 'simplified'
    onnx.save(model, path)
    with pytest.raises(
        UserError, match=r'is damaged, or was changed since .* accept it as it is: emo-mm seal .*cls\.onnx$'
    ):
        Predictor(path)
    assert main(['seal', str(path)]) == 0
    assert Predictor(path)(np.zeros((48, 64, 3), np.uint8)).probabilities.shape == (2,)


def test_the_weights_beside_an_xml_count(tmp_path):
    model, weights = tmp_path / 'model.xml', tmp_path / 'model.bin'
    model.write_text('<net/>')
    weights.write_bytes(bytes(1000))
    seal(model)
    assert model.read_bytes().startswith(b'<net/>\n<!-- emo_mm_sha256 ')
    check_seal(model)
    weights.write_bytes(bytes(999) + b'\1')
    with pytest.raises(UserError, match=r'model\.xml: is damaged'):
        check_seal(model)
    weights.unlink()
    with pytest.raises(UserError, match=r'model\.bin: cannot be read: No such file'):
        check_seal(model)


def test_a_file_is_sealed_through_a_link_to_it(tmp_path):
    path, link = write_onnx(tmp_path / 'cls.onnx', classifier()), tmp_path / 'link.onnx'
    path.write_bytes(path.read_bytes()[:-1])
    link.symlink_to(path)
    seal(link)
    assert link.is_symlink()
    check_seal(path)


def without_seal(path):
    """The file as a program writes it that keeps our description and drops the checksum."""
    onnx = pytest.importorskip('onnx')
    model = onnx.load(path)
    kept = [entry for entry in model.metadata_props if entry.key != 'emo_mm_sha256']
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    onnx.save(model, path)


def test_a_whole_file_without_a_seal_is_taken_with_a_warning(tmp_path, caplog):
    path = write_onnx(tmp_path / 'cls.onnx', classifier())
    without_seal(path)
    with caplog.at_level(logging.WARNING):
        Predictor(path)
    assert 'cls.onnx: holds no checksum, as another program wrote it' in caplog.text
    assert f'emo-mm seal {path}' in caplog.text


def test_an_old_seal_before_what_a_program_added_is_taken_with_a_warning(tmp_path, caplog):
    onnx = pytest.importorskip('onnx')
    path = write_onnx(tmp_path / 'cls.onnx', classifier())
    model = onnx.load(path)
    entry = model.metadata_props.add()
    entry.key, entry.value = 'tool', 'mine'
    onnx.save(model, path)
    with caplog.at_level(logging.WARNING):
        Predictor(path)
    assert 'holds no checksum' in caplog.text


@pytest.mark.parametrize('kept', [0.1, 0.5, 0.9, 0.99])
def test_a_file_without_a_seal_that_is_cut_off_is_refused(kept, tmp_path):
    path = write_onnx(tmp_path / 'cls.onnx', classifier())
    without_seal(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(UserError, match='is cut off, or was not written by emo-mm export'):
        Predictor(path)


@pytest.mark.parametrize('name', ['model.pt2', 'model.pth', 'photograph.jpg'])
def test_only_files_with_a_checksum_of_ours_are_sealed(name, tmp_path, capsys):
    (tmp_path / name).write_bytes(b'there')
    assert main(['seal', str(tmp_path / name)]) == 1
    assert 'is no file that has a checksum of ours (.onnx, .xml' in capsys.readouterr().err
