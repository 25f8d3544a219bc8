"""A program of `torch.export` is run only if it holds nothing but operators on tensors."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from deployed_files import write_program
from descriptions import classifier

from emo_mm.errors import UserError
from emo_mm.predict.vetted_program import read_program
from emo_mm.runtime import Predictor
from emo_mm.runtime.metadata import InputSpec

ONE = InputSpec('images', 'float32', 'NCHW', None, 48, 64, normalized_inside=False)


@pytest.fixture
def program(tmp_path) -> Path:
    return write_program(tmp_path / 'model.pt2', classifier(input=ONE))


def test_a_program_runs_with_any_batch(program):
    image = np.zeros((48, 64, 3), np.uint8)
    image[..., 0] = 255
    for batch in (1, 4):
        for found in Predictor(program, batch_size=batch)([image] * 5):
            assert found.probabilities[0] > 0.9


def rewritten(path: Path, change) -> None:
    """Change the entries of an archive."""
    with zipfile.ZipFile(path) as archive:
        entries = {info.filename: archive.read(info) for info in archive.infolist()}
    change(entries)
    with zipfile.ZipFile(path, 'w') as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def edit_graph(entries, edit) -> None:
    (name,) = (name for name in entries if name.endswith('models/model.json'))
    content = json.loads(entries[name])
    edit(content)
    entries[name] = json.dumps(content).encode()


def first_node(content):
    return content['graph_module']['graph']['nodes'][0]


class Evil:
    def __reduce__(self):
        return (print, ('RUN',))


def pickled() -> bytes:
    buffer = io.BytesIO()
    torch.save((Evil(),), buffer)
    return buffer.getvalue()


def calls(target):
    return lambda entries: edit_graph(entries, lambda content: first_node(content).update(target=target))


def text_argument(entries) -> None:
    argument = {'name': 'filename', 'arg': {'as_string': '/etc/passwd'}, 'kind': 1}
    edit_graph(entries, lambda content: first_node(content)['inputs'].append(argument))


def source_as_a_name(entries) -> None:
    def edit(content):
        first_node(content)['name'] = 'x; print("RUN")'

    edit_graph(entries, edit)


def source_as_a_size(entries) -> None:
    def edit(content):
        values = content['graph_module']['graph']['tensor_values']
        next(iter(values.values()))['sizes'][0] = {'as_expr': {'expr_str': '__import__("os").getcwd()', 'hint': None}}

    edit_graph(entries, edit)


def pickled_weight(entries) -> None:
    (name,) = (name for name in entries if name.endswith('model_weights_config.json'))
    entries[name] = entries[name].replace(b'"use_pickle": false', b'"use_pickle": true')


def pickled_example(entries) -> None:
    (name,) = (name for name in entries if name.endswith('sample_inputs/model.pt'))
    entries[name] = pickled()


def compiled_code(entries) -> None:
    root = next(iter(entries)).partition('/')[0]
    entries[f'{root}/data/aotinductor/model/code.so'] = b'\x7fELF'


def other_tree(entries) -> None:
    def edit(content):
        call = content['graph_module']['module_call_graph'][0]['signature']
        call['in_spec'] = call['in_spec'].replace('builtins.tuple', 'collections.defaultdict')

    edit_graph(entries, edit)


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        (calls('torch.hub.load'), 'it calls torch.hub.load'),
        (calls('torch.ops.aten.save.default'), 'it calls torch.ops.aten.save'),
        (calls('torch.ops.aten.from_file.default'), 'it calls torch.ops.aten.from_file'),
        (calls('_operator.attrgetter'), 'it calls _operator.attrgetter'),
        (text_argument, 'an operator gets the text /etc/passwd'),
        (source_as_a_name, 'it names something'),
        (source_as_a_size, 'a size is __import__'),
        (pickled_weight, 'scale is pickled'),
        (pickled_example, 'its example input holds more than tensors'),
        (compiled_code, 'it holds data/aotinductor'),
        (other_tree, 'its inputs or outputs are a collections.defaultdict'),
    ],
)
def test_what_could_run_code_is_refused_before_pytorch_reads_it(program, monkeypatch, capsys, change, said):
    monkeypatch.setattr(torch.export, 'load', None)
    rewritten(program, change)
    with pytest.raises(UserError) as error:
        Predictor(program)
    assert f'{program}: is refused, and nothing in it was run: {said}' in str(error.value)
    assert '\n' not in str(error.value)
    assert 'RUN' not in capsys.readouterr().out


def test_guards_which_are_source_are_left_out(program, capsys):
    rewritten(program, lambda e: edit_graph(e, lambda content: content.update(guards_code=['print("RUN") or True'])))
    Predictor(program)(np.zeros((48, 64, 3), np.uint8))
    assert 'RUN' not in capsys.readouterr().out
    assert b'RUN' not in read_program(program).archive.getvalue()


@pytest.mark.parametrize('part', [0.1, 0.3, 0.5, 0.8, 0.999])
def test_one_changed_byte_is_told_or_does_not_matter(program, part):
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    expected = Predictor(program)(image).probabilities
    content = bytearray(program.read_bytes())
    content[int(part * len(content))] ^= 1
    program.write_bytes(content)
    with contextlib.suppress(UserError):
        np.testing.assert_array_equal(Predictor(program)(image).probabilities, expected)


@pytest.mark.parametrize('content', [b'', b'garbage' * 100, pickle.dumps(1)])
def test_another_file_is_refused(tmp_path, content):
    path = tmp_path / 'model.pt2'
    path.write_bytes(content)
    with pytest.raises(UserError, match=r'model\.pt2: is damaged or no program of torch\.export'):
        Predictor(path)


def test_a_program_that_is_cut_off_is_refused(program):
    program.write_bytes(program.read_bytes()[:-100])
    with pytest.raises(UserError, match='is damaged or no program'):
        Predictor(program)
