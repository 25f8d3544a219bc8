"""The table of commands, and the arguments that are made from the docstrings of their options."""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
from dataclasses import dataclass, field
from types import ModuleType
from typing import Literal

import pytest

from emo_mm import cli
from emo_mm.arguments import Argument, Group, add_options, attribute_texts, first_sentence, given, read_options
from emo_mm.benchmark.command import WhatToDo
from emo_mm.benchmark.flops_command import FlopsOptions
from emo_mm.benchmark.options import BenchmarkOptions
from emo_mm.config.command import ListOptions
from emo_mm.data.convert.options import FormatOptions
from emo_mm.data.shapes.command import ShapesOptions
from emo_mm.data.show.options import ShowOptions
from emo_mm.data.splits import DataRequest
from emo_mm.doctor_command import DoctorOptions
from emo_mm.engine.options import EvaluateOptions, TrainOptions
from emo_mm.engine.run_arguments import read_run_options
from emo_mm.export.formats import format_names
from emo_mm.export.options import ExportOptions
from emo_mm.predict.options import DISPLAY_THRESHOLD, MergeOptions, PredictOptions
from emo_mm.runtime.seal_command import SealOptions
from emo_mm.serve.options import ServeOptions
from emo_mm.weights.command import ConvertOptions

RUN = (
    'work-dir cfg-options launcher local_rank local-rank batch-size workers cache cache-gb check skip-check bad-data '
    'no-report '
    'dry-run data-root train-ann train-images val-ann val-images test-ann test-images classes '
    'split split-seed no-groups palette binary reduce-zero ignore layout '
)
# What users have in their scripts: each command with its flags and positional arguments.
FLAGS = {
    'list': 'task paths',
    'doctor': 'data layout',
    'train': RUN + 'config resume amp auto-scale-lr weights epochs iters lr seed keep-empty skip-non-finite '
    'anchors input patience freeze class-weights balance device no-val val-loss track',
    'test': RUN + 'config checkpoint out show-dir format-only reduced-decoding',
    'export': 'model weights format input dynamic batch nms half int8 uint8 logits calibration images data-root out '
    'tolerance threads',
    'predict': 'sources model weights out save-json save-images save-masks coco-ids batch score-threshold compile '
    'save-parquet shard-size shards resume',
    'merge': 'out coco-ids',
    'serve': 'model weights host port workers batch max-queue max-mb score-threshold token-file',
    'seal': 'file',
    'data shapes': 'root num-train num-val seed',
    'data convert': 'data_root target to train-ann train-images val-ann val-images test-ann test-images classes '
    'split split-seed no-groups palette binary reduce-zero ignore layout',
    'data show': 'data_root task out images train-ann train-images val-ann val-images test-ann test-images classes '
    'split split-seed no-groups palette binary reduce-zero ignore layout',
    'weights convert': 'source out to format',
    'benchmark': 'models suite size batch runtime mode dtype device threads baseline rounds seconds quick images '
    'stages out show',
    'flops': 'model shape depth',
}
OPTIONS = {
    'list': (ListOptions,),
    'doctor': (DoctorOptions,),
    'train': (TrainOptions, DataRequest),
    'test': (EvaluateOptions, DataRequest),
    'export': (ExportOptions,),
    'predict': (PredictOptions,),
    'merge': (MergeOptions,),
    'serve': (ServeOptions,),
    'seal': (SealOptions,),
    'data shapes': (ShapesOptions,),
    'data convert': (FormatOptions, DataRequest),
    'data show': (ShowOptions, DataRequest),
    'weights convert': (ConvertOptions,),
    'benchmark': (BenchmarkOptions, WhatToDo),
    'flops': (FlopsOptions,),
}


def sub_parsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    found = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(found[0].choices) if found else {}


def parser_of(words: str) -> argparse.ArgumentParser:
    parser = cli._parser(words.split())
    for word in words.split():
        parser = sub_parsers(parser)[word]
    return parser


def arguments_of(words: str) -> list[argparse.Action]:
    return [action for action in parser_of(words)._actions if not isinstance(action, argparse._HelpAction)]


def parse(words: str) -> argparse.Namespace:
    return cli._parser(words.split()).parse_args(words.split())


# --- the table --------------------------------------------------------------------------------------------------------
TOY = '''
"""``emo-mm toy``."""

from dataclasses import dataclass

NAME = 'toy'
HELP = 'greet somebody'


@dataclass
class ToyOptions:
    """What the command line of ``toy`` gives.

    Attributes:
        name: Whom to greet.
        loud: Greet in capital letters. They carry further.
    """

    name: str
    loud: bool = False


def add_arguments(parser):
    from emo_mm.arguments import add_options

    add_options(parser, ToyOptions)


def run(args):
    from emo_mm.arguments import read_options

    options = read_options(args, ToyOptions)
    text = f'hello {options.name}'
    print(text.upper() if options.loud else text)
'''


@pytest.fixture
def toy(tmp_path, monkeypatch) -> ModuleType:
    """A command of one module, in one more row of the table."""
    path = tmp_path / 'toy_command.py'
    path.write_text(TOY)
    spec = importlib.util.spec_from_file_location('toy_command', path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, 'toy_command', module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(cli, 'COMMANDS', (*cli.COMMANDS, module))
    return module


def test_a_command_is_one_module_and_one_row_of_the_table(toy, run_cli):
    assert 'greet somebody' in run_cli('--help').out
    assert run_cli('toy', 'you') == (0, 'hello you\n', '')
    assert run_cli('toy', 'you', '--loud').out == 'HELLO YOU\n'
    described = run_cli('toy', '--help').out
    assert 'whom to greet\n' in described
    assert 'greet in capital letters\n' in described
    assert run_cli('toy').code == 2


def test_every_command_is_in_the_help_and_in_the_documents(repo_root, run_cli):
    shown = run_cli('--help').out
    documents = ''.join(path.read_text() for path in [repo_root / 'README.md', *(repo_root / 'docs').rglob('*.md')])
    for command in cli.COMMANDS:
        assert f'    {command.NAME}' in shown
        assert ' '.join(command.HELP.split()) in ' '.join(shown.split())
        assert f'emo-mm {command.NAME}' in documents


WITHOUT = ('torch', 'numpy', 'PIL', 'mmengine', 'mmcv', 'mmdet', 'mmseg', 'mmpretrain', 'cv2', 'tqdm')


def test_help_and_lists_import_nothing_slow(tmp_path):
    lines = [[*command.split(), '--help'] for command in FLAGS] + [
        ['--help'],
        ['list'],
        ['list', '--paths'],
        ['weights'],
    ]
    code = (
        'import sys\n'
        'from emo_mm.cli import main\n'
        f'for words in {lines!r}:\n'
        '    try:\n'
        '        main(words)\n'
        '    except SystemExit as end:\n'
        '        assert end.code == 0, words\n'
        f'    slow = set({WITHOUT!r}) & set(sys.modules)\n'
        '    assert not slow, (words, slow)\n'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr


def test_commands_work_without_docstrings(tmp_path):
    command = [sys.executable, '-OO', '-m', 'emo_mm.cli', 'train', '--help']
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert '--skip-non-finite N' in done.stdout


# --- what the commands take -------------------------------------------------------------------------------------------
@pytest.mark.parametrize('words', FLAGS)
def test_every_flag_of_a_command_is_still_there(words):
    names = {name for action in arguments_of(words) for name in action.option_strings or [action.dest]}
    assert {name.removeprefix('--') for name in names} == set(FLAGS[words].split())


@pytest.mark.parametrize('words', FLAGS)
def test_the_help_of_every_public_flag_comes_from_the_docstring_of_its_option(words):
    texts = [text for options in OPTIONS[words] for text in attribute_texts(options).values()]
    sentences = [first_sentence(text) for text in texts]
    for action in arguments_of(words):
        if action.help == argparse.SUPPRESS:
            assert action.option_strings == ['--local_rank', '--local-rank']
            continue
        shown = action.help.partition(' (default: ')[0].removesuffix(f': {format_names()}')
        assert shown
        assert shown in sentences or any(f'None {shown}.' in text for text in texts), action


@pytest.mark.parametrize('words', FLAGS)
def test_help_is_plain_text(words, run_cli):
    done = run_cli(*words.split(), '--help')
    assert done.code == 0
    assert '`' not in done.out


def test_help_names_every_row_of_the_tables_it_speaks_of():
    from emo_mm.benchmark.contestant import DTYPES, MODES
    from emo_mm.benchmark.runtimes import RUNTIMES
    from emo_mm.benchmark.suites import SUITES

    texts = attribute_texts(BenchmarkOptions)
    for field_name, table in (
        ('runtimes', RUNTIMES),
        ('modes', MODES),
        ('dtypes', DTYPES),
        ('suite', SUITES),
    ):
        missing = [row for row in table if row not in first_sentence(texts[field_name])]
        assert not missing, field_name
    assert str(DISPLAY_THRESHOLD) in first_sentence(attribute_texts(PredictOptions)['score_threshold'])


def test_what_is_not_given_has_the_default_of_its_option(monkeypatch):
    monkeypatch.setenv('LOCAL_RANK', '0')
    assert read_run_options(parse('train x'), TrainOptions) == TrainOptions('x')
    assert read_run_options(parse('test x y.pth'), EvaluateOptions) == EvaluateOptions('x', checkpoint='y.pth')
    assert read_options(parse('export x'), ExportOptions) == ExportOptions('x')
    assert read_options(parse('predict a --model b'), PredictOptions) == PredictOptions(['a'], 'b')
    assert read_options(parse('benchmark'), BenchmarkOptions) == BenchmarkOptions()
    assert read_options(parse('flops x'), FlopsOptions) == FlopsOptions('x')


def test_what_is_given_arrives_in_the_options(monkeypatch):
    monkeypatch.setenv('LOCAL_RANK', '0')
    words = 'x --data-root d --train-ann t --batch-size 3 --cache ram --cache-gb 2 --lr 0.1 --amp --resume --dry-run'
    expected = TrainOptions(
        'x',
        data=DataRequest(data_root='d', train_ann='t'),
        batch_size=3,
        cache='ram',
        cache_gb=2.0,
        lr=0.1,
        amp=True,
        resume='auto',
        dry_run=True,
    )
    assert read_run_options(parse(f'train {words}'), TrainOptions) == expected
    assert read_run_options(parse('train x --resume a.pth'), TrainOptions).resume == 'a.pth'
    for flag in ('--calibration', '--images'):
        assert read_options(parse(f'export x {flag} d'), ExportOptions).images == 'd'
    words = 'benchmark a b --batch 1 16 --runtime eager fused --mode e2e --seconds 2'
    expected = BenchmarkOptions(
        ('a', 'b'), batches=(1, 16), runtimes=('eager', 'fused'), modes=('e2e',), turn_seconds=2
    )
    assert read_options(parse(words), BenchmarkOptions) == expected
    assert read_options(parse('predict a b --model m --compile'), PredictOptions) == PredictOptions(
        ['a', 'b'], 'm', compiled=True
    )


@pytest.mark.parametrize('words', ['--skip-check', '--skip-check --check full', '--check full --skip-check'])
def test_skip_check_wins_over_check(words, monkeypatch):
    monkeypatch.setenv('LOCAL_RANK', '0')
    assert read_run_options(parse(f'train x {words}'), TrainOptions).check is None


def test_the_number_of_a_process_comes_from_the_flag_or_the_environment(monkeypatch):
    import os

    monkeypatch.setenv('LOCAL_RANK', '1')
    monkeypatch.delenv('LOCAL_RANK')
    read_run_options(parse('train x --local_rank 3'), TrainOptions)
    assert os.environ['LOCAL_RANK'] == '3'
    monkeypatch.setenv('LOCAL_RANK', '2')
    read_run_options(parse('train x --local-rank 3'), TrainOptions)
    assert os.environ['LOCAL_RANK'] == '2'


@pytest.mark.parametrize(
    ('words', 'expected'),
    [('', (15, 0.5)), ('--quick', (3, 0.0)), ('--quick --rounds 4', (4, 0.0)), ('--seconds 1', (15, 1.0))],
)
def test_a_quick_benchmark_keeps_what_was_given(words, expected, monkeypatch):
    from emo_mm.benchmark import run

    asked = []
    monkeypatch.setattr(run, 'run_benchmark', asked.append)
    assert cli.main(['benchmark', 'emo_1m', '--size', '64', '32x48', *words.split()]) == 0
    assert (asked[0].rounds, asked[0].turn_seconds) == expected
    assert asked[0].sizes == ((64, 64), (32, 48))


@pytest.mark.toolbox
def test_settings_of_the_config_are_read_as_openmmlab_reads_them(monkeypatch):
    monkeypatch.setenv('LOCAL_RANK', '0')
    found = read_run_options(parse('train x --cfg-options a.b=1 c=[1,2] d=x --amp'), TrainOptions)
    assert found.cfg_options == {'a.b': 1, 'c': [1, 2], 'd': 'x'}
    assert found.amp


# --- arguments from a dataclass ---------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Inner:
    """What is inside.

    Attributes:
        side: Side in pixels.
    """

    side: int | None = None


@dataclass(frozen=True)
class Base:
    """What all have.

    Attributes:
        source: A ``file``.
        share: Share in %, or all. More text
            on another line.
    """

    source: str
    share: float | None = None


@dataclass(frozen=True)
class Options(Base):
    """What some have.

    Attributes:
        kind: RGB or grey.
        names: Names. They differ.
        inner: What is inside.
        mode: How to look. None looks away.
    """

    kind: Literal['rgb', 'grey'] = 'rgb'
    names: tuple[str, ...] = ()
    inner: Inner = field(default_factory=Inner)
    mode: Literal['near', 'far'] | None = 'near'


INSIDE = Group('inside', 'what nobody sees')


@pytest.fixture
def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog='x')
    add_options(made, Options, {'inner': Argument(group=INSIDE), 'mode': Argument(off='--no-look')})
    return made


def test_texts_come_from_the_docstrings_of_a_class_and_its_bases():
    texts = attribute_texts(Options)
    assert list(texts) == ['source', 'share', 'kind', 'names', 'inner', 'mode']
    assert texts['share'] == 'Share in %, or all. More text on another line.'


@pytest.mark.parametrize(
    ('text', 'sentence'),
    [
        ('Folder for ``logs``. More.', 'folder for logs'),
        ('JSON file; ``a.json`` if None.', 'JSON file; a.json if None'),
        ('COCO annotations', 'COCO annotations'),
        ('``HxW`` in pixels.', 'HxW in pixels'),
        ('', ''),
    ],
)
def test_the_first_sentence_of_a_docstring_is_the_help(text, sentence):
    assert first_sentence(text) == sentence


def test_arguments_have_the_types_choices_and_defaults_of_the_fields(parser):
    words = 'f --share 0.5 --kind grey --names a b --side 3 --mode far'
    args = parser.parse_args(words.split())
    assert read_options(args, Options) == Options('f', 0.5, 'grey', ('a', 'b'), Inner(3), 'far')
    assert read_options(parser.parse_args(['f']), Options) == Options('f')
    assert read_options(parser.parse_args(['f', '--no-look']), Options).mode is None
    assert read_options(parser.parse_args(['f']), Options, {'share': 1.0}) == Options('f', 1.0)
    assert given(parser.parse_args(['f', '--kind', 'rgb']), Options) == {'source': 'f', 'kind': 'rgb', 'inner': Inner()}


@pytest.mark.parametrize('words', ['', 'f --share x', 'f --kind blue', 'f --side 1.5', 'f --names'])
def test_wrong_words_are_wrong_usage(words, parser, capsys):
    with pytest.raises(SystemExit) as end:
        parser.parse_args(words.split())
    assert end.value.code == 2
    assert 'usage: x' in capsys.readouterr().err


def test_help_shows_sentences_defaults_and_groups(parser):
    shown = ' '.join(parser.format_help().split())
    assert 'source a file' in shown
    assert '--share SHARE share in %, or all --' in shown
    assert '--kind {rgb,grey} RGB or grey (default: rgb)' in shown
    assert '--no-look looks away' in shown
    assert 'inside: what nobody sees --side N side in pixels' in shown
