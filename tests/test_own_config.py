"""A user's own config, in any folder, inherits ours: from a clone, from a wheel, whatever reads it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from mmengine.config import Config

import emo_mm
from emo_mm.compat import register_toolbox
from emo_mm.config.names import find_config, get_config, list_models
from emo_mm.config.widths import check_widths, wrong_widths
from emo_mm.data.shapes.generate import generate
from emo_mm.errors import UserError
from emo_mm.tasks import TASKS

pytestmark = pytest.mark.toolbox

INHERITED = ['det/ssdlite_emo_1m_coco.py', 'seg/fpn_emov2_2m_ade20k.py', 'cls/emov2_5m_imagenet.py']


def own_config(folder: Path, text: str, name: str = 'my.py') -> Path:
    path = folder / name
    path.write_text(text)
    return path


def python(*lines: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, '-c', '\n'.join(lines)], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope='module')
def wheel_tree(tmp_path_factory: pytest.TempPathFactory, repo_root: Path) -> Path:
    """The package as a wheel lays it out: configs in ``emo_mm/.mim``, what finds them beside the package."""
    site = tmp_path_factory.mktemp('site')
    without_cache = shutil.ignore_patterns('__pycache__')
    shutil.copytree(repo_root / 'emo_mm', site / 'emo_mm', ignore=without_cache)
    shutil.copytree(repo_root / 'configs', site / 'emo_mm' / '.mim' / 'configs', ignore=without_cache)
    shutil.copy2(repo_root / 'emo_mm' / 'config' / 'inherit.py', site / '_emo_mm_configs.py')
    (site / 'emo_mm_configs.pth').write_text('import _emo_mm_configs\n')
    return site


@pytest.mark.parametrize('name', INHERITED)
def test_get_config_reads_a_config_that_inherits_ours(name, tmp_path):
    cfg = get_config(own_config(tmp_path, f"_base_ = 'emo_mm::{name}'\nmodel = dict(backbone=dict(window_size=8))\n"))
    plain = get_config(Path(name).stem)
    plain.model.backbone.window_size = 8
    assert cfg.to_dict() == plain.to_dict()


@pytest.mark.parametrize('first', ['emo_mm', 'mmengine'])
@pytest.mark.parametrize('name', INHERITED)
def test_mmengine_reads_it_once_the_package_is_imported_from_a_clone(name, first, tmp_path, repo_root):
    own_config(tmp_path, f"_base_ = 'emo_mm::{name}'\n")
    lines = ['import emo_mm', 'from mmengine.config import Config']
    out = python(
        f'import sys; sys.path.insert(0, {str(repo_root)!r})',
        *(lines if first == 'emo_mm' else reversed(lines)),
        "print(Config.fromfile('my.py').text)",
        cwd=tmp_path,
    )
    assert str(repo_root / 'configs' / name) in out.splitlines()


@pytest.mark.parametrize('name', INHERITED)
def test_mmengine_reads_it_in_a_process_that_never_imports_the_package_from_a_wheel(name, tmp_path, wheel_tree):
    own_config(tmp_path, f"_base_ = 'emo_mm::{name}'\n")
    out = python(
        f'import site, sys; sys.path.insert(0, {str(wheel_tree)!r}); site.addsitedir({str(wheel_tree)!r})',
        'from mmengine.config import Config',
        "assert 'emo_mm' not in sys.modules",
        "print(Config.fromfile('my.py').text)",
        cwd=tmp_path,
    )
    assert str(wheel_tree / 'emo_mm' / '.mim' / 'configs' / name) in out.splitlines()


def test_the_import_of_mmengine_leaves_its_reader_of_configs_as_python_knows_it(tmp_path, repo_root):
    out = python(
        f'import sys; sys.path.insert(0, {str(repo_root)!r})',
        'import emo_mm, importlib, inspect',
        'from emo_mm.config.inherit import install',
        'install()',
        'import mmengine.config.config as module',
        'install()',
        "print([getattr(finder, '__name__', '') for finder in sys.meta_path].count('ConfigFinder'))",
        'print(type(module.__spec__.loader).__name__, len(inspect.getsource(module)) > 1000)',
        'importlib.reload(module)',
        "open('my.py', 'w').write('_base_ = \"emo_mm::cls/emo_1m_demo.py\"')",
        "print(module.Config.fromfile('my.py').default_scope)",
        cwd=tmp_path,
    )
    assert out.splitlines() == ['1', 'SourceFileLoader True', 'mmpretrain']


def test_bases_in_a_list_from_anywhere_below_the_configs_and_nested(tmp_path):
    own_config(
        tmp_path,
        '_base_ = [\n'
        "    'emo_mm::_base_/models/ssdlite_emov2.py', 'emo_mm::_base_/datasets/shapes_detection.py',\n"
        "    'emo_mm::_base_/runtime/det.py', 'emo_mm::_base_/schedules/scratch.py',\n"
        ']\n',
        'first.py',
    )
    cfg = get_config(own_config(tmp_path, "_base_ = 'first.py'\nmax_epochs = 3\n"))
    assert (cfg.model.backbone.type, cfg.max_epochs, cfg.default_scope) == ('emo_mm.EMOv2', 3, 'mmdet')


def test_parts_of_a_base_keep_the_scope_of_the_config(tmp_path):
    """Names in our configs are the toolbox's, which MMEngine would look up in ``emo_mm`` for a base with a scope."""
    cfg = get_config(
        own_config(
            tmp_path,
            "_base_ = 'emo_mm::det/ssdlite_emo_1m_coco.py'\n"
            'my_pipeline = {{_base_.train_pipeline}}\n'
            'shorter = [*_base_.train_pipeline[:2], _base_.train_pipeline[-1]]\n'
            'train_dataloader = dict(dataset=dict(dataset=dict(pipeline=shorter)))\n',
        )
    )
    plain = get_config('ssdlite_emo_1m_coco').train_pipeline
    assert cfg.my_pipeline == plain
    assert cfg.train_dataloader.dataset.dataset.pipeline == [*plain[:2], plain[-1]]


@pytest.mark.parametrize('name', ['emo_mm::seg/pspnet_emo_5m_ade20k.py', 'emo_mm::pspnet_emo_5m_ade20k'])
def test_the_tools_take_what_a_config_inherits_for_a_name(name, run_cli):
    assert find_config(name) == find_config('pspnet_emo_5m_ade20k')
    assert get_config(name).model.decode_head.type == 'PSPHead'


@pytest.mark.parametrize(
    ('wrong', 'near'),
    [
        ('det/sdlite_emo_1m_coco.py', 'emo_mm::det/ssdlite_emo_1m_coco.py'),
        ('ssdlite_emo_1m_coco.py', 'emo_mm::det/ssdlite_emo_1m_coco.py'),
        ('_base_/models/ssd_emo.py', 'emo_mm::_base_/models/ssdlite_emo.py'),
        ('../../setup.py', 'emo-mm list'),
    ],
)
def test_an_unknown_name_is_one_line_with_the_names_that_come_near(wrong, near, tmp_path, run_cli):
    path = own_config(tmp_path, f"_base_ = 'emo_mm::{wrong}'\n")
    with pytest.raises(UserError, match=rf"my\.py cannot be read: no config 'emo_mm::{wrong}'") as refused:
        get_config(path)
    assert near in str(refused.value)
    with pytest.raises(UserError, match='no config'):
        Config.fromfile(str(path))
    result = run_cli('train', path)
    assert result.code != 0
    assert len(result.err.strip().splitlines()) == 1


def test_a_module_of_ones_own_that_is_not_found_is_one_line_that_says_how(tmp_path, run_cli):
    text = "_base_ = 'emo_mm::cls/emo_1m_demo.py'\ncustom_imports = dict(imports=['parts_of_mine'])\n"
    result = run_cli('train', own_config(tmp_path, text))
    assert result.code != 0
    assert result.err.strip().endswith(
        'my.py cannot be read: Failed to import parts_of_mine; PYTHONPATH must name the folder of a module of your own'
    )


def test_names_of_other_packages_stay_with_mmengine(tmp_path):
    path = own_config(tmp_path, "_base_ = 'other::det/some.py'\n")
    with pytest.raises(AssertionError, match='does not support to load other config'):
        Config.fromfile(str(path))


def small_run(task: str, folder: Path) -> Path:
    generate(folder / 'data' / 'shapes', num_train=8, num_val=4)
    loader = dict(num_workers=0, persistent_workers=False)
    base = f'emo_mm::{TASKS[task].folder}/{TASKS[task].demo}.py'
    text = f'_base_ = {base!r}\ntrain_dataloader = {dict(loader, batch_size=4)}\n'
    text += f'val_dataloader = {loader}\ntest_dataloader = {loader}\n'
    by_iteration = 'max_iters' in get_config(TASKS[task].demo).train_cfg
    return own_config(
        folder, text + f'train_cfg = dict({"max_iters" if by_iteration else "max_epochs"}=1, val_interval=1)\n'
    )


@pytest.mark.parametrize('task', list(TASKS))
def test_the_own_training_tool_of_a_toolbox_trains_it_from_a_wheel(task, tmp_path, wheel_tree):
    tool = Path(find_spec(TASKS[task].scope).origin).parent / '.mim' / 'tools' / 'train.py'
    if not tool.is_file():
        pytest.skip(f'{TASKS[task].scope} was installed without its tools')
    path = small_run(task, tmp_path)
    python(
        f'import runpy, site, sys; sys.path.insert(0, {str(wheel_tree)!r}); site.addsitedir({str(wheel_tree)!r})',
        f"sys.argv = ['train.py', {str(path)!r}, '--work-dir', 'run']",
        f"runpy.run_path({str(tool)!r}, run_name='__main__')",
        'import emo_mm',
        f'assert emo_mm.__file__.startswith({str(wheel_tree)!r})',
        cwd=tmp_path,
    )
    assert list((tmp_path / 'run').glob('*.pth'))


def test_emo_mm_train_and_test_take_it(tmp_path):
    path = small_run('cls', tmp_path)
    run = [sys.executable, '-m', 'emo_mm.cli']
    done = subprocess.run([*run, 'train', path], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    command = [*run, 'test', path, 'work_dirs/my/epoch_1.pth']
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize('name', list_models())
def test_every_width_in_a_config_is_that_of_the_maps(name):
    cfg = get_config(name)
    register_toolbox(cfg.default_scope)
    assert wrong_widths(cfg) == []


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        (
            'ssdlite_emo_1m_coco',
            'model.neck.in_channels=(160,288), not (80,168); '
            'model.neck.out_channels=(160,288,512,256,256,128), not (80,168,512,256,256,128); '
            'model.bbox_head.in_channels=(160,288,512,256,256,128), not (80,168,512,256,256,128)',
        ),
        ('retinanet_emo_1m_coco', 'model.neck.in_channels=[48,72,160,288], not [32,48,80,168]'),
        (
            'deeplabv3_emo_1m_ade20k',
            'model.decode_head.in_channels=288, not 168; model.auxiliary_head.in_channels=160, not 80',
        ),
        ('segformer_emov2_1m_ade20k', 'model.decode_head.in_channels=[48,72,160,288], not [32,48,80,180]'),
        ('emo_1m_imagenet', 'model.head.in_channels=288, not 168'),
    ],
)
def test_another_size_without_its_widths_is_one_line_that_has_them(name, expected, tmp_path):
    base = find_config(name)
    path = own_config(
        tmp_path, f"_base_ = 'emo_mm::{base.parent.name}/{base.name}'\nmodel = dict(backbone=dict(arch='5m'))\n"
    )
    with pytest.raises(UserError, match="arch='5m', set ") as refused:
        emo_mm.build_model(path)
    assert str(refused.value).endswith(expected)
    cfg = get_config(path)
    cfg.merge_from_dict({key: right for key, _, right in wrong_widths(cfg)})
    check_widths(cfg)


def test_training_tells_a_wrong_width_before_the_first_step(tmp_path, run_cli):
    generate(tmp_path / 'shapes', num_train=8, num_val=4)
    path = own_config(
        tmp_path, "_base_ = 'emo_mm::det/ssdlite_emo_1m_demo.py'\nmodel = dict(backbone=dict(arch='2m'))\n"
    )
    result = run_cli('train', path, '--data-root', tmp_path / 'shapes', '--work-dir', tmp_path / 'run')
    assert result.code != 0
    assert 'model.neck.in_channels=(120,200), not (80,168)' in result.err
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('change', [{'neck.type': 'MyNeck'}, {'backbone.type': 'mmdet.ResNet'}])
def test_nothing_is_said_of_parts_that_are_the_users_own(change):
    from mmengine.registry import MODELS

    if 'MyNeck' not in MODELS.module_dict:
        MODELS.register_module(name='MyNeck', module=type('MyNeck', (), {}))
    cfg = get_config('ssdlite_emo_1m_coco')
    cfg.model.backbone.arch = '5m'
    cfg.merge_from_dict({f'model.{key}': value for key, value in change.items()})
    register_toolbox(cfg.default_scope)
    assert wrong_widths(cfg) == []
