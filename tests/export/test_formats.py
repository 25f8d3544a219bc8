"""The tables of formats and runtimes: each row is written, checked and run, installed by its extras, and documented."""

from __future__ import annotations

import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from deployed_files import write_program
from descriptions import classifier
from PIL import Image
from shallow_models import options, shallow

from emo_mm.errors import UserError
from emo_mm.export.check import images_in, match
from emo_mm.export.formats import FORMATS, Format
from emo_mm.export.options import AXES
from emo_mm.export.run import export_loaded
from emo_mm.runtime import Predictor
from emo_mm.runtime.metadata import InputSpec
from emo_mm.runtime.runtimes import RUNTIMES, Runtime, runnable_suffixes

pytestmark = pytest.mark.toolbox


@pytest.fixture(scope='module')
def extras(repo_root) -> dict[str, set[str]]:
    """The distributions that each extra of setup.py installs."""
    import setuptools

    given = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setuptools, 'setup', given.update)
        runpy.run_path(str(repo_root / 'setup.py'))
    names = {
        name: {line.split('=')[0].rstrip('~>').lower() for line in lines}
        for name, lines in given['extras_require'].items()
    }
    assert 'onnxruntime' in names['runtime']
    return names


@pytest.mark.parametrize('row', FORMATS.values(), ids=FORMATS)
def test_what_a_format_needs_is_installed_by_its_extra(row, extras):
    needed = {module.replace('_', '-').lower() for module in row.modules}
    assert needed <= extras[row.extra] if row.extra else not needed


@pytest.mark.parametrize('row', RUNTIMES.values(), ids=RUNTIMES)
def test_what_a_runtime_needs_is_installed_by_its_extra(row, extras):
    needed = {module.replace('_', '-').lower() for module in row.modules}
    assert needed <= extras[row.extra] if row.session else row.needs


def test_every_format_has_a_runtime_or_a_reason_why_not():
    assert [row.suffix for row in FORMATS.values()] == list(RUNTIMES)


def test_the_tables_are_light(repo_root):
    code = 'import sys, emo_mm.export.formats, emo_mm.runtime.runtimes; print(*sys.modules)'
    loaded = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.split()
    assert not {'torch', 'numpy', 'onnx', 'mmengine'} & set(loaded)


def documented(row: Format) -> str:
    """Return a format's line in docs/deployment.md."""
    files = ', '.join(f'`{suffix}`' for suffix in (row.suffix, *row.runtime.companions))
    cells = [
        f'`{row.name}`',
        f'{files}; {row.note}' if row.note else files,
        f'`emo-mm[{row.extra}]`' if row.extra else '',
        'all' if row.axes == AXES else ', '.join(row.axes),
        ', '.join(row.precisions),
        row.runtime.name if row.runtime.session else '**not run**: needs macOS',
        f'`emo-mm[{row.runtime.extra}]`' if row.runtime.extra else '',
    ]
    return '| ' + ' | '.join(cells).replace('|  |', '| |').replace('|  |', '| |') + ' |'


def test_the_document_has_a_line_for_each_format(repo_root):
    page = (repo_root / 'docs' / 'deployment.md').read_text(encoding='utf-8').splitlines()
    lines = [' '.join(line.split()) for line in page]
    expected = [' '.join(documented(row).split()) for row in FORMATS.values()]
    assert [line for line in lines if line in expected] == expected


def test_the_document_on_prediction_names_every_file_that_is_run(repo_root):
    page = (repo_root / 'docs' / 'predict.md').read_text(encoding='utf-8')
    assert not [suffix for suffix in runnable_suffixes() if f'`{suffix}`' not in page]


def written(folder: Path, name: str, task: str) -> Path:
    """Export a model of a task to a format, with a fixed batch of 1."""
    row = FORMATS[name]
    changes = {'logits': True} if task == 'seg' and not row.takes_argmax else {}
    path = folder / f'{task}{row.suffix}'
    export_loaded(shallow(task), options(path, format=name, input='96', **changes))
    return path


RUN = [row.name for row in FORMATS.values() if row.runtime.session and row.name != 'onnx']
QUICK = ('openvino', 'litert')  # what GFL is tried in each time


@pytest.mark.parametrize(
    ('name', 'task'),
    [
        *((name, task) for task in ('det', 'seg', 'cls') for name in RUN),
        *(pytest.param(name, 'GFL', marks=[] if name in QUICK else [pytest.mark.slow]) for name in RUN),
        *(pytest.param(name, 'RTMDet', marks=[pytest.mark.slow]) for name in RUN),
    ],
)
def test_prediction_answers_in_every_runtime_as_in_onnx_runtime(tmp_path, run_cli, name, task):
    row = FORMATS[name]
    for module in (*row.modules, *row.runtime.modules, *FORMATS['onnx'].modules):
        pytest.importorskip(module, reason=f'needs the extras {row.extra} and {row.runtime.extra}')
    path = written(tmp_path, name, task)
    images = images_in(None, 3)
    found = Predictor(path, batch_size=4)(images)
    expected = Predictor(written(tmp_path, 'onnx', task))(images)
    for ours, theirs in zip(found, expected, strict=True):
        if task in ('det', 'GFL', 'RTMDet'):
            assert len(theirs.labels) > 0
            assert match(ours, theirs)[0] == len(ours.labels) + len(theirs.labels)
        elif task == 'seg':
            assert (ours.labels == theirs.labels).mean() > (0.999 if row.takes_argmax else 0.95)
        else:
            np.testing.assert_allclose(ours.probabilities, theirs.probabilities, atol=1e-5)
    Image.fromarray(images[0]).save(tmp_path / 'a.png')
    done = run_cli('predict', tmp_path / 'a.png', '--model', path, '--batch', '4')
    assert (done.code, done.out.count('a.png: ')) == (0, 1), done.err


def test_a_file_of_a_fixed_batch_takes_any_number_of_images(tmp_path):
    path = tmp_path / 'model.pt2'
    export_loaded(shallow('cls'), options(path, format='torch', input='64', batch=2))
    images = images_in(None, 3)
    several, single = (Predictor(path, batch_size=size)(images) for size in (4, 1))
    for one, other in zip(several, single, strict=True):
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-6)


WITHOUT_TOOLBOXES = """
import sys
for name in ('mmengine', 'mmcv', 'mmdet', 'mmseg', 'mmpretrain'):
    sys.modules[name] = None  # importing it fails
import numpy as np
from emo_mm.runtime import Predictor
print(Predictor(sys.argv[1])(np.zeros((48, 64, 3), np.uint8)).probabilities.shape)
"""


def test_a_program_of_torch_needs_no_toolbox(tmp_path):
    spec = InputSpec('images', 'float32', 'NCHW', None, 48, 64, normalized_inside=False)
    path = write_program(tmp_path / 'model.pt2', classifier(input=spec))
    command = [sys.executable, '-c', WITHOUT_TOOLBOXES, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == '(2,)\n', done.stderr


@pytest.mark.parametrize('suffix', runnable_suffixes())
def test_a_missing_runtime_is_told_with_the_command_that_installs_it(tmp_path, monkeypatch, suffix):
    row = RUNTIMES[suffix]
    monkeypatch.setitem(sys.modules, row.modules[-1], None)  # importing it fails
    if suffix == '.xml':
        from emo_mm.runtime.sessions import openvino

        openvino._core.cache_clear()
    path = tmp_path / f'model{suffix}'
    path.write_bytes(b'something')
    with pytest.raises(UserError) as error:
        Predictor(path)
    assert str(error.value) == f"{path} needs {row.name}: pip install 'emo-mm[{row.extra}]'"


def test_a_package_of_core_ml_is_told_to_need_macos(tmp_path, run_cli):
    Image.new('RGB', (8, 8)).save(tmp_path / 'a.png')
    (tmp_path / 'model.mlpackage').mkdir()
    done = run_cli('predict', tmp_path / 'a.png', '--model', tmp_path / 'model.mlpackage')
    assert done.code == 1
    assert done.err.startswith(f'error: {tmp_path}/model.mlpackage: cannot be run here: Core ML runs on macOS only')
    assert done.err.count('\n') == 1


def test_weights_of_another_file_are_not_overwritten(tmp_path, monkeypatch):
    monkeypatch.setattr('emo_mm.export.formats.Format.check_available', lambda kind: None)
    (tmp_path / 'model.param').write_text('ncnn')
    with pytest.raises(UserError, match=r'model\.bin beside it belongs to model\.param; give another name with --out'):
        export_loaded(shallow('cls'), options(tmp_path / 'model.xml', format='openvino', input='96'))


@pytest.fixture
def toy(monkeypatch) -> None:
    """A format that is added to the tables: one module, one row in each."""
    monkeypatch.setitem(FORMATS, 'toy', Format('toy', '.toy', 'toy_format:write'))
    monkeypatch.setitem(RUNTIMES, '.toy', Runtime('.toy', 'the toy', 'toy_format:ToySession', ('numpy',), 'toy'))


@pytest.mark.usefixtures('toy')
def test_a_new_format_is_offered_written_checked_and_run(tmp_path, run_cli, monkeypatch):
    monkeypatch.setattr('emo_mm.predict.loading.load_for_prediction', lambda model, weights: shallow('cls'))
    assert 'coreml or toy' in run_cli('export', '--help').out
    path = tmp_path / 'model.toy'
    done = run_cli('export', 'emo_1m_demo', '--format', 'toy', '--input', '64', '--out', path)
    assert done.code == 0, done.err
    assert 'checked against PyTorch' in done.out
    assert '100.00% of 8 images have the same best class' in done.out
    Image.fromarray(images_in(None, 1)[0]).save(tmp_path / 'a.png')
    done = run_cli('predict', tmp_path / 'a.png', '--model', path, '--batch', '4')
    assert (done.code, done.out.count('a.png: ')) == (0, 1), done.err
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    done = run_cli('predict', tmp_path / 'a.png', '--model', path)
    assert (done.code, done.err.count('\n')) == (1, 1)
    assert 'is damaged, or was changed since it was exported' in done.err
    shutil.copy(path, tmp_path / 'x.other')
    done = run_cli('predict', tmp_path / 'a.png', '--model', tmp_path / 'x.other')
    assert done.code == 1
    assert '.toy' in done.err  # among those that are run


@pytest.mark.usefixtures('toy')
def test_a_new_format_that_answers_otherwise_is_noticed(tmp_path, monkeypatch):
    import toy_format

    monkeypatch.setattr(toy_format.ToySession, 'run', lambda self, batch: [1 - self._outputs[: len(batch)]])
    with pytest.raises(UserError, match='answers differ from PyTorch'):
        export_loaded(shallow('cls'), options(tmp_path / 'model.toy', format='toy', input='64'))
