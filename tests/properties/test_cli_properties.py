"""Whatever is typed, the command line answers with a usage (exit code 2) or one clear error (1), never a traceback."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from exploring import explore, few_or_many
from hypothesis import strategies as st
from PIL import Image

pytestmark = pytest.mark.toolbox

# Each names something that is not there, so that nothing long is ever started.
COMMANDS = {
    'list': 'list --task dett',
    'train': 'train ssdlite_emo_1m_coco --data-root nowhere --epochs 1 --batch-size 2 --lr 0.1 --seed 0 --workers 0 '
    '--weights none --cfg-options model.backbone.window_size=7 --cache ram --cache-gb 1 --work-dir runs',
    'test': 'test emo_1m_imagenet nothing.pth --data-root nowhere --work-dir runs --out m.json',
    'data': 'data shapes photo.png --num-train 1 --num-val 1 --seed 0',
    'weights': 'weights convert nothing.pth --out converted --to native --format pth',
    'predict': 'predict photo.png --model nothing.onnx --batch 1 --score-threshold 0.5 --save-json',
    'predict pytorch': 'predict photo.png nothing.jpg --model emo_1m_imagenet --weights nothing.pth',
    'export': 'export emo_1m_imagenet --weights nothing.pth --format onnx --input 320 --dynamic batch --batch 1 '
    '--tolerance 0.1 --threads 1 --out model.onnx',
    'benchmark': 'benchmark nothing --batch 1 --size 224 --runtime eager --mode forward --dtype fp32 --threads 1 '
    '--rounds 1 --seconds 0.01 --baseline eager',
    'benchmark --show': 'benchmark --show photo.png --out tables',
    'flops': 'flops nothing --shape 224 --depth 2',
    'doctor': 'doctor --dta nowhere',
}
# What stays as it is, so that a command stays one that fails.
KEPT_WORDS = (
    'list train test data shapes weights convert predict export benchmark flops doctor photo.png nothing nothing.pth '
    'nothing.onnx nowhere --data-root --weights --model --show dett --task --dta'
)
ODD = (
    '', ' ', '-', '--', '-1', '0', '1.5', 'nan', 'inf', '1e999', '²', '٣', '9' * 400, 'x' * 5000, '..', '/', '.', '~',
    '/dev/null', '*', '[', '{', '{}', '=', 'a=b', 'a.b.c=1', 'model=1', 'model.backbone=3', 'model.backbone.arch=9m',
    '--help-me', '--cfg-options', '--work-dir', 'ä', '画像', '\x1b[31m', '\udcff', 'None', 'True', 'http://',
    'ftp://x/y', 'photo.png', 'broken.json', 'broken.py', 'deep.json', 'empty', '@file', '%s', '{0}', '$HOME', ';',
    "'", '"',
)  # fmt: skip


@st.composite
def mistypings(draw: st.DrawFn) -> list[str]:
    """A command with one or two of its words dropped, doubled, misspelt, exchanged or replaced by an odd one."""
    words = list(draw(st.sampled_from(list(COMMANDS.values()))).split())
    for _ in range(draw(st.integers(1, 2))):
        places = [i for i, word in enumerate(words) if word not in KEPT_WORDS.split()]
        kind = draw(st.integers(0, 5))
        if not places or kind == 5:
            words.append(draw(st.sampled_from(ODD)))
            continue
        place = draw(st.sampled_from(places))
        if kind == 0:
            del words[place]
        elif kind == 1:
            words.insert(place, words[place])
        elif kind == 2 and len(words[place]) > 2:
            letter = draw(st.integers(1, len(words[place]) - 1))
            words[place] = words[place][:letter] + words[place][letter + 1 :]
        else:
            words[place] = draw(st.sampled_from(ODD))
    return words


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The working directory, with files that are not what they should be."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('EMO_MM_CACHE', str(tmp_path / 'cache'))
    Image.new('RGB', (8, 8)).save('photo.png')
    Path('broken.json').write_text('{"images": [')
    Path('deep.json').write_text('[' * 100_000)
    Path('broken.py').write_text('model = dict(\n')
    Path('empty').write_text('')
    return tmp_path


def check_answer(run_cli, words: list[str]) -> None:
    done = run_cli(*words)
    assert done.code in (1, 2), f'{words}: exit code {done.code}\n{done.out}'
    assert 'Traceback' not in done.err
    if done.code == 2:
        assert 'usage: ' in done.err
        assert 'error: ' in done.err
    else:
        assert done.err.count('error: ') == 1 or words[0] == 'predict', done.err  # which may fail for several images
        assert '\x1b' not in done.err
        assert len(done.err) < 6000


@pytest.mark.parametrize('words', COMMANDS.values(), ids=COMMANDS)
def test_each_command_tells_what_is_not_there(words, folder, run_cli):
    check_answer(run_cli, words.split())


@few_or_many(60, 2000)
def test_mistyped_commands_are_told(examples, folder, run_cli):
    explore(lambda words: check_answer(run_cli, words), mistypings(), examples)


@pytest.mark.parametrize(
    ('words', 'said'),
    [
        (['trian', 'x'], "invalid choice: 'trian'"),
        (['train'], 'the following arguments are required: config'),
        (['train', 'emo_1m_demo', '--epoch', 'x'], 'invalid int value'),
        (['predict', 'photo.png'], 'required: --model'),
        (['list', '--task', 'dett'], 'invalid choice'),
    ],
)
def test_wrong_usage_exits_with_2(words, said, folder, run_cli):
    done = run_cli(*words)
    assert done.code == 2
    assert said in done.err


@pytest.mark.parametrize(
    ('words', 'said'),
    [
        (['train', 'ssdlite_emo_1m_cocoo'], 'did you mean ssdlite_emo_1m_coco'),
        (['train', 'configs/det/ssdlite_emo_1m_cocoo.py'], 'did you mean ssdlite_emo_1m_coco'),
        (['flops', 'emo_1n'], 'did you mean emo_1m'),
        (['benchmark', 'emo_1m', '--runtime', 'eagr'], 'did you mean eager'),
        (['weights', 'convert', 'emo_1n'], 'emo_1m'),
        (['export', 'emo_1m_imagenett', '--format', 'torch'], 'did you mean emo_1m_imagenet'),
        (['predict', 'photo.png', '--model', 'emo_1m_imagenett'], 'did you mean emo_1m_imagenet'),
        (['train', 'broken.py'], 'config broken.py cannot be read: SyntaxError'),
        (['benchmark', '--show', 'deep.json'], 'holds no results'),
        (['predict', 'photo.png', '--model', 'photo.png', '--coco-ids', 'deep.json'], "no config 'photo.png'"),
    ],
)
def test_wrong_names_are_told_with_what_was_meant(words, said, folder, run_cli):
    done = run_cli(*words)
    assert done.code == 1, done.err
    assert said in done.err
    assert len(done.err.strip().splitlines()) <= 3


def test_a_folder_that_cannot_be_made_is_told(folder, run_cli):
    done = run_cli('benchmark', '--show', 'photo.png', '--out', 'photo.png/below')
    assert done.code == 1
    assert run_cli('data', 'shapes', 'photo.png/below', '--num-train', '1', '--num-val', '1').code == 1


def test_names_that_are_no_texts_can_be_printed(folder, run_cli):
    pytest.importorskip('onnxruntime')
    from deployed_files import write_onnx
    from descriptions import classifier

    name = os.fsdecode(b'caf\xe9.png')
    Path('photo.png').rename(name)
    done = run_cli('predict', name, '--model', write_onnx(folder / 'cls.onnx', classifier()))
    assert done.code == 0, done.err
