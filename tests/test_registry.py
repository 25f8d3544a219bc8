"""``emo_mm.EMO`` builds from every scope of OpenMMLab, in fresh processes that never imported the package."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.toolbox

BUILD = """
import json, sys
from mmengine.registry import MODELS
scope = sys.argv[1]
if scope != 'mmengine':
    from importlib import import_module
    MODELS = import_module(scope + '.registry').MODELS
assert 'emo_mm' not in sys.modules
MODELS.import_from_location()  # the toolbox's own models, which for some import another toolbox
before = set(sys.modules)
model = MODELS.build(dict(type='emo_mm.EMO', arch='1m', out_indices=(4,)))
more = {'mmdet', 'mmseg', 'mmpretrain'} & (set(sys.modules) - before)
print(json.dumps([type(model).__module__, model.out_channels, sorted(more)]))
"""


@pytest.mark.parametrize('scope', ['mmengine', 'mmdet', 'mmseg', 'mmpretrain'])
def test_the_backbone_builds_from_the_scope_and_imports_no_other_toolbox(scope, tmp_path):
    done = subprocess.run(
        [sys.executable, '-c', BUILD, scope], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == ['emo_mm.models.emo', [168], []]


def test_importing_the_package_imports_neither_torch_nor_a_toolbox(tmp_path):
    code = 'import sys, emo_mm; print({"torch", "mmengine", "mmcv", "mmdet", "mmseg", "mmpretrain"} & set(sys.modules))'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.strip() == 'set()'


def test_an_unknown_component_is_an_error_that_names_it():
    from mmengine.registry import MODELS

    with pytest.raises(KeyError, match='EMU'):
        MODELS.build(dict(type='emo_mm.EMU'))


CONFIGS = {'mmdet': 'ssdlite_emo_1m_demo', 'mmseg': 'deeplabv3_emo_1m_demo', 'mmpretrain': 'emo_1m_demo'}
FEW = {
    'mmdet': ['train_cfg.max_epochs=1', 'train_dataloader.batch_size=2'],
    'mmseg': ['train_cfg.max_iters=2', 'train_cfg.val_interval=2', 'train_dataloader.batch_size=2'],
    'mmpretrain': ['train_cfg.max_epochs=1', 'train_dataloader.batch_size=4'],
}


@pytest.mark.parametrize('scope', CONFIGS)
def test_the_own_training_tool_of_each_toolbox_runs_our_configs(scope, tmp_path):
    from importlib.util import find_spec

    from emo_mm.config.names import find_config
    from emo_mm.data.shapes.generate import generate

    tool = Path(find_spec(scope).origin).parent / '.mim' / 'tools' / 'train.py'
    if not tool.is_file():
        pytest.skip(f'{scope} was installed without its tools')
    generate(tmp_path / 'data' / 'shapes', num_train=8, num_val=4)
    loaders = [
        f'{s}_dataloader.{key}'
        for s in ('train', 'val', 'test')
        for key in ('num_workers=0', 'persistent_workers=False')
    ]
    command = [sys.executable, str(tool), str(find_config(CONFIGS[scope])), '--work-dir', str(tmp_path / 'run')]
    done = subprocess.run(
        [*command, '--cfg-options', *loaders, *FEW[scope]], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert list((tmp_path / 'run').glob('*.pth'))
