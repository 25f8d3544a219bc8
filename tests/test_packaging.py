"""The built package: what a wheel, an sdist and an editable installation carry."""

from __future__ import annotations

import email
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from emo_mm.stack import DISTRIBUTIONS
from emo_mm.version import __version__

BUILD_INPUTS = (
    'setup.py',
    'pyproject.toml',
    'MANIFEST.in',
    'README.md',
    'LICENSE',
    'CHANGELOG.md',
    'Makefile',
    'model-index.yml',
)
BUILD_FOLDERS = ('emo_mm', 'configs', 'tools', 'requirements')

# -S: no site-packages at all, so these statements also show that nothing but the standard library is needed
LIST_CONFIGS = (sys.executable, '-S', '-c', 'import emo_mm; print(emo_mm.__file__, *emo_mm.list_models())')


def run(*command: str | Path, cwd: Path, **env: str) -> str:
    inherited = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'}
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env=inherited | env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f'{command}:\n{done.stdout}\n{done.stderr}'
    return done.stdout


def build(kind: str, source: Path, out: Path) -> Path:
    """Call a hook of the build backend (``wheel``, ``sdist``, ``editable``) as pip does, without fetching anything."""
    out.mkdir()
    statement = f'from setuptools import build_meta; build_meta.build_{kind}({str(out)!r})'
    run(sys.executable, '-c', statement, cwd=source)
    (built,) = out.iterdir()
    return built


def configs_of(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob('*.py')}


@pytest.fixture(scope='module')
def source(tmp_path_factory: pytest.TempPathFactory, repo_root: Path) -> Path:
    """A copy of what a build reads, so that no test leaves build products in the clone."""
    copy = tmp_path_factory.mktemp('source')
    for name in BUILD_FOLDERS:
        shutil.copytree(repo_root / name, copy / name, ignore=shutil.ignore_patterns('__pycache__'))
    for name in BUILD_INPUTS:
        if (repo_root / name).is_file():
            shutil.copy2(repo_root / name, copy / name)
    return copy


@pytest.fixture(scope='module')
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build('wheel', source, tmp_path_factory.mktemp('wheel') / 'out')


@pytest.fixture(scope='module')
def clean_venv(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment that holds the wheel and nothing else."""
    venv = tmp_path_factory.mktemp('clean') / 'venv'
    run(sys.executable, '-m', 'venv', '--without-pip', venv, cwd=venv.parent)
    python = venv / 'bin' / 'python'
    run(sys.executable, '-m', 'pip', '--python', python, 'install', '--no-deps', '--no-index', wheel, cwd=venv.parent)
    return venv


def serves_a_clone_only(path: Path, repo_root: Path) -> bool:
    parts = path.relative_to(repo_root).parts
    return parts[:2] == ('tools', 'documents') or parts[-1] == 'make_env.sh'


def site_packages(venv: Path) -> Path:
    (found,) = venv.glob('lib/python*/site-packages')
    return found


def test_wheel_carries_every_config_tool_and_pin_of_the_clone(wheel: Path, repo_root: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for folder in ('configs', 'tools', 'requirements'):
        expected = {
            f'emo_mm/.mim/{path.relative_to(repo_root).as_posix()}'
            for path in (repo_root / folder).rglob('*')
            if path.is_file() and '__pycache__' not in path.parts and not serves_a_clone_only(path, repo_root)
        }
        assert expected
        assert {name for name in names if name.startswith(f'emo_mm/.mim/{folder}/')} == expected
    assert not [name for name in names if name.startswith('tests/') or '__pycache__' in name]


def test_wheel_carries_the_tools_of_users_and_none_that_makes_documents(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        tools = {name.removeprefix('emo_mm/.mim/tools/') for name in archive.namelist() if '.mim/tools/' in name}
    commands = {f'{name}.py' for name in ('train', 'test', 'predict', 'export', 'benchmark', 'demo')}
    scripts = {'_dist.sh', '_slurm.sh', 'dist_train.sh', 'dist_test.sh', 'slurm_train.sh', 'slurm_test.sh'}
    assert tools == commands | scripts


def test_wheel_carries_every_file_of_the_package(wheel: Path, repo_root: Path) -> None:
    expected = {
        path.relative_to(repo_root).as_posix()
        for path in (repo_root / 'emo_mm').rglob('*')
        if path.is_file() and '__pycache__' not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        assert expected <= set(archive.namelist())


@pytest.mark.parametrize('kind', ['wheel', 'editable'])
def test_an_installation_puts_the_finders_beside_the_package(kind: str, source: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(source, tmp_path / 'source', ignore=shutil.ignore_patterns('build', '*.egg-info'))
    with zipfile.ZipFile(build(kind, copy, tmp_path / 'built')) as archive:
        archive.extractall(tmp_path / 'site')
        recorded = archive.read(next(name for name in archive.namelist() if name.endswith('RECORD'))).decode()
    for name in ('_emo_mm_ops.py', 'emo_mm_ops.pth', '_emo_mm_configs.py', 'emo_mm_configs.pth'):
        assert f'{name},sha256=' in recorded  # pip uninstalls what is recorded
    statement = (
        f'import site, sys; site.addsitedir({str(tmp_path / "site")!r}); from importlib.util import find_spec; '
        'print(sys.meta_path[-1].__name__, sys.meta_path[0].__name__, "emo_mm" in sys.modules, '
        'sys.meta_path[-1].find_spec("mmcv._ext").origin)'
    )
    env = {'EMO_MM_OPS': 'auto'}
    *finders, imported, place = run(sys.executable, '-S', '-c', statement, cwd=tmp_path, **env).split()
    assert (finders, imported) == (['OpsFinder', 'ConfigFinder'], 'False')
    assert Path(place).parts[-3:] == ('emo_mm', 'ops', 'ext.py')


def test_build_leaves_the_source_tree_as_it_was(wheel: Path, source: Path) -> None:
    assert wheel.is_file()
    assert not (source / 'emo_mm' / '.mim').exists()


def test_a_kept_build_folder_does_not_bring_back_a_deleted_config(source: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(source, tmp_path / 'source')
    extra = copy / 'configs' / 'det' / 'withdrawn.py'
    extra.touch()
    first = build('wheel', copy, tmp_path / 'first')
    extra.unlink()
    second = build('wheel', copy, tmp_path / 'second')
    name = 'emo_mm/.mim/configs/det/withdrawn.py'
    assert name in zipfile.ZipFile(first).namelist()
    assert name not in zipfile.ZipFile(second).namelist()


def test_names_resolve_in_a_clean_venv_without_a_clone(clean_venv: Path, tmp_path: Path, repo_root: Path) -> None:
    listed = run(clean_venv / 'bin' / 'emo-mm', 'list', cwd=tmp_path)
    for path in (repo_root / 'configs' / 'det').glob('*.py'):
        assert path.stem in listed
    assert __version__ in run(clean_venv / 'bin' / 'emo-mm', '--version', cwd=tmp_path)


def test_import_and_list_need_the_standard_library_only(clean_venv: Path, tmp_path: Path) -> None:
    place, *names = run(*LIST_CONFIGS, cwd=tmp_path, PYTHONPATH=str(site_packages(clean_venv))).split()
    assert Path(place).is_relative_to(clean_venv)
    assert 'ssdlite_emo_1m_coco' in names


@pytest.mark.toolbox
def test_a_model_is_built_from_the_wheel(clean_venv: Path, tmp_path: Path) -> None:
    statement = (
        'import emo_mm; from emo_mm.stack import config_root; '
        "model = emo_mm.build_model('ssdlite_emo_1m_coco'); print(config_root(), type(model.backbone).__name__)"
    )
    out = run(sys.executable, '-c', statement, cwd=tmp_path, PYTHONPATH=str(site_packages(clean_venv)))
    root, backbone = out.split()[-2:]
    assert Path(root) == site_packages(clean_venv) / 'emo_mm' / '.mim' / 'configs'
    assert backbone == 'EMO'


@pytest.mark.toolbox
def test_mmengine_finds_the_configs_of_the_wheel_in_a_process_that_never_imports_it(
    clean_venv: Path, tmp_path: Path
) -> None:
    site = site_packages(clean_venv)
    (tmp_path / 'my.py').write_text("_base_ = 'emo_mm::det/ssdlite_emo_1m_coco.py'\n")
    statement = (
        f'import site, sys; sys.path.insert(0, {str(site)!r}); site.addsitedir({str(site)!r}); '
        'from mmengine.config import Config; from mmengine.hub import get_config; '
        "own = Config.fromfile('my.py'); hub = get_config('emo_mm::det/ssdlite_emo_1m_coco.py'); "
        'print(own.model == hub.model, hub.filename)'
    )
    same, place = run(sys.executable, '-c', statement, cwd=tmp_path).split()
    assert same == 'True'
    assert Path(place) == site / 'emo_mm' / '.mim' / 'configs' / 'det' / 'ssdlite_emo_1m_coco.py'


def test_wheel_from_the_sdist_equals_the_wheel_from_the_tree(source: Path, wheel: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(source, tmp_path / 'source', ignore=shutil.ignore_patterns('build', '*.egg-info'))
    sdist = build('sdist', copy, tmp_path / 'sdist')
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / 'unpacked', filter='data')
    (unpacked,) = (tmp_path / 'unpacked').iterdir()
    again = build('wheel', unpacked, tmp_path / 'wheel')
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(again) as other:
        assert sorted(one.namelist()) == sorted(other.namelist())


def test_editable_installation_reads_the_configs_of_the_clone(source: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(source, tmp_path / 'source', ignore=shutil.ignore_patterns('build', '*.egg-info'))
    editable = build('editable', copy, tmp_path / 'editable')
    site = tmp_path / 'site'
    with zipfile.ZipFile(editable) as archive:
        archive.extractall(site)
    (copy / 'configs' / 'det' / 'added_later.py').touch()
    command = [*LIST_CONFIGS[:-1], f'import site; site.addsitedir({str(site)!r}); {LIST_CONFIGS[-1]}']
    place, *names = run(*command, cwd=tmp_path).split()
    assert Path(place) == copy / 'emo_mm' / '__init__.py'
    assert 'added_later' in names
    assert not (copy / 'emo_mm' / '.mim').exists()


def test_only_the_extras_ask_for_a_stack(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith('.dist-info/METADATA')]
        requires = email.message_from_bytes(archive.read(name)).get_all('Requires-Dist', [])
    base = [line for line in requires if 'extra ==' not in line]
    assert base
    for stack in ('onedl', 'classic'):
        other = 'classic' if stack == 'onedl' else 'onedl'
        in_extra = [line for line in requires if f'extra == "{stack}"' in line]
        for names in DISTRIBUTIONS.values():
            assert any(line.startswith(f'{names[stack]}~=') for line in in_extra)
            assert not any(line.startswith(f'{names[other]}~=') for line in in_extra)
            assert not any(line.startswith((names['onedl'], names['classic'])) for line in base)


def test_every_pin_stands_in_one_file(repo_root: Path) -> None:
    from emo_mm.stack import read_pins

    shared = [set(read_pins(name)) for name in ('build', 'common', 'dev', 'deploy')]
    for stack in ('onedl', 'classic'):
        groups = [*shared, set(read_pins(stack)), set(read_pins(f'mmcv-{stack}'))]
        assert sum(map(len, groups)) == len(set().union(*groups))
    for path in (repo_root / 'requirements').glob('*.txt'):
        wanted = [line for line in path.read_text().splitlines() if line and not line.startswith(('#', '-r '))]
        assert all('==' in line for line in wanted), path


def test_make_env_refuses_an_unknown_stack(repo_root: Path) -> None:
    done = subprocess.run([repo_root / 'tools' / 'make_env.sh', 'other'], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, '')
    assert done.stderr.startswith('usage: tools/make_env.sh onedl|classic')


def test_make_env_names_the_missing_interpreter(repo_root: Path, tmp_path: Path) -> None:
    """In a copy, as an environment that is there already would be left alone."""
    (tmp_path / 'tools').mkdir()
    script = shutil.copy2(repo_root / 'tools' / 'make_env.sh', tmp_path / 'tools')
    env = os.environ | {'PYTHON': str(tmp_path / 'no-such-python')}
    done = subprocess.run([script, 'onedl'], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert 'no-such-python' in done.stderr
    assert 'apt-get install' in done.stderr
    assert not (tmp_path / '.venv').exists()


@pytest.mark.parametrize(
    ('script', 'arguments'),
    [
        ('dist_train.sh', ['config.py']),
        ('dist_train.sh', ['config.py', 'two']),
        ('dist_test.sh', ['config.py', '2']),
        ('slurm_train.sh', ['partition', 'name', 'config.py']),
        ('slurm_test.sh', ['partition', 'name', 'config.py']),
    ],
)
def test_launchers_tell_their_usage(script: str, arguments: list[str], repo_root: Path) -> None:
    done = subprocess.run([repo_root / 'tools' / script, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f'usage: tools/{script}')


def test_dist_train_starts_the_processes_it_was_asked_for(repo_root: Path, tmp_path: Path) -> None:
    """The shell part alone: tools/train.py is replaced by one that tells how it was called."""
    for name in ('dist_train.sh', '_dist.sh'):
        shutil.copy2(repo_root / 'tools' / name, tmp_path)
    (tmp_path / 'train.py').write_text(
        'import os, sys\n'
        "open(f'rank{os.environ[\"RANK\"]}', 'w').write(' '.join([os.environ['WORLD_SIZE'], *sys.argv[1:]]))\n"
    )
    run(tmp_path / 'dist_train.sh', 'a config.py', '2', '--amp', cwd=tmp_path, PYTHON=sys.executable)
    for rank in (0, 1):
        assert (tmp_path / f'rank{rank}').read_text() == '2 a config.py --launcher pytorch --amp'


def test_dist_train_over_machines_wants_the_port_that_they_share(repo_root: Path) -> None:
    env = {key: value for key, value in os.environ.items() if key != 'PORT'} | {'NNODES': '2', 'PYTHON': sys.executable}
    command = [repo_root / 'tools' / 'dist_train.sh', 'config.py', '2']
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert 'NNODES=2 set PORT' in done.stderr


def test_dist_train_with_a_rendezvous_starts_failed_processes_again(repo_root: Path, tmp_path: Path) -> None:
    for name in ('dist_train.sh', '_dist.sh'):
        shutil.copy2(repo_root / 'tools' / name, tmp_path)
    (tmp_path / 'train.py').write_text(
        'import os, pathlib, sys\n'
        'turn = os.environ["TORCHELASTIC_RESTART_COUNT"]\n'
        'pathlib.Path(f"rank{os.environ[\'RANK\']}_{turn}").touch()\n'
        'sys.exit(turn == "0" and os.environ["RANK"] == "1")\n'
    )
    run(tmp_path / 'dist_train.sh', 'x', '2', cwd=tmp_path, PYTHON=sys.executable, RDZV='c10d', MAX_RESTARTS='1')
    assert {path.name for path in tmp_path.glob('rank*')} >= {'rank1_0', 'rank0_1', 'rank1_1'}


@pytest.mark.parametrize('address', ['', 'localhost', '127.0.0.1'])
def test_dist_train_over_machines_wants_an_address_that_the_others_reach(address: str, repo_root: Path) -> None:
    env = {**os.environ, 'NNODES': '2', 'PORT': '29500', 'MASTER_ADDR': address, 'PYTHON': sys.executable}
    command = [repo_root / 'tools' / 'dist_train.sh', 'config.py', '2']
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, 'set MASTER_ADDR to an address of the first machine' in done.stderr) == (2, True)


def test_slurm_train_asks_for_a_task_per_gpu(repo_root: Path, tmp_path: Path) -> None:
    srun = tmp_path / 'srun'
    srun.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    srun.chmod(0o755)
    arguments = ('gpus', 'job', 'a config.py', 'work', '--amp')
    out = run(
        repo_root / 'tools' / 'slurm_train.sh',
        *arguments,
        cwd=tmp_path,
        PATH=f'{tmp_path}:{os.environ["PATH"]}',
        GPUS='4',
        SRUN_ARGS='--qos high',
        PYTHON='python3',
    ).splitlines()
    assert {'-p', 'gpus', '--gres=gpu:4', '--ntasks=4', '--ntasks-per-node=4', '--qos', 'high'} <= set(out)
    assert out[-7:] == [
        str(repo_root / 'tools' / 'train.py'),
        'a config.py',
        '--work-dir',
        'work',
        '--amp',
        '--launcher',
        'slurm',
    ]
