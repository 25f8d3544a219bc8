"""The sidecar of a format that cannot describe itself: its description, and the checksum of the file."""

from __future__ import annotations

import json
import logging

import pytest
from descriptions import classifier

from emo_mm.errors import UserError
from emo_mm.runtime.seal import SIDECAR_KEY, check_seal, read_sidecar, seal, sidecar


@pytest.fixture
def model(tmp_path):
    path = tmp_path / 'model.param'
    path.write_text('a graph')
    path.with_suffix('.bin').write_bytes(bytes(100))
    sidecar(path).write_text(classifier().to_json())
    seal(path)
    return path


def test_the_checksum_stands_beside_the_description(model):
    text, checksum = read_sidecar(model)
    assert text == classifier().to_json()
    assert json.loads(sidecar(model).read_text())[SIDECAR_KEY] == checksum
    check_seal(model)
    seal(model)  # again
    assert read_sidecar(model) == (text, checksum)


@pytest.mark.parametrize('part', ['graph', 'weights', 'description'])
def test_a_change_of_any_part_is_told(model, part):
    if part == 'graph':
        model.write_text('a grapH')
    elif part == 'weights':
        model.with_suffix('.bin').write_bytes(bytes(99) + b'\1')
    else:
        sidecar(model).write_text(sidecar(model).read_text().replace('"cat"', '"cow"'))
    with pytest.raises(
        UserError, match=r'model\.param: is damaged, or was changed since .*: it does not match its checksum'
    ):
        check_seal(model)
    seal(model)
    check_seal(model)


def test_missing_weights_are_named(model):
    model.with_suffix('.bin').unlink()
    with pytest.raises(UserError, match=r'model\.bin: cannot be read: No such file'):
        check_seal(model)


def test_a_sidecar_of_an_earlier_version_is_taken_with_a_warning(model, caplog):
    sidecar(model).write_text(classifier().to_json())
    with caplog.at_level(logging.WARNING):
        check_seal(model)
    assert 'model.param.json holds no checksum, so damage cannot be detected' in caplog.text


@pytest.mark.parametrize('text', ['', 'null', '[]', '{', '7'])
def test_a_sidecar_that_is_no_description_cannot_be_sealed(model, text):
    sidecar(model).write_text(text)
    with pytest.raises(UserError, match='is no description'):
        seal(model)


def test_without_a_sidecar_there_is_nothing_to_seal(model):
    sidecar(model).unlink()
    with pytest.raises(UserError, match=r'has no model\.param\.json beside it'):
        seal(model)
