"""The plan of a run: what it changes is told before anything is built, and impossible options are one line."""

import json

import numpy as np
import pytest
from box_trees import yolo
from data_trees import annotations, write_masks, write_split
from mmengine.config import Config
from PIL import Image

from emo_mm.cli import main
from emo_mm.config.names import get_config
from emo_mm.engine.options import EvaluateOptions, TrainOptions
from emo_mm.engine.plan import TEST, take
from emo_mm.engine.steps import loaders, testing
from emo_mm.errors import UserError

pytestmark = pytest.mark.toolbox


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    root = tmp_path_factory.mktemp('plan') / 'shapes'
    assert main(['data', 'shapes', str(root), '--num-train', '4', '--num-val', '2']) == 0
    return root


def test_a_dry_run_prints_each_edit_and_writes_nothing(shapes, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ['train', 'ssdlite_emo_1m_demo', '--data-root', str(shapes), '--epochs', '3', '--lr', '0.5', '--dry-run']
    assert main(command) == 0
    said = capsys.readouterr().out
    assert 'train_cfg.max_epochs: 10 -> 3' in said
    assert 'optim_wrapper.optimizer.lr: 0.004 -> 0.5' in said
    assert 'train_dataloader.dataset.data_root' in said
    assert "custom_hooks: added {'type': 'emo_mm.ProgressHook'}" in said
    assert 'nothing was trained or written' in said
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_of_a_test_needs_no_weights(shapes, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ['test', 'emo_1m_demo', 'missing.pth', '--data-root', str(shapes / 'folders'), '--dry-run']
    assert main(command) == 0
    assert 'nothing was trained or written' in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_files_for_a_server_are_written_by_the_one_evaluator_that_can(tmp_path):
    cfg = get_config('ssdlite_emo_1m_demo')
    cfg.work_dir = str(tmp_path)
    cfg.test_evaluator = [dict(type='DumpDetResults', out_file_path='x.pkl'), cfg.test_evaluator]
    take(cfg, TEST, EvaluateOptions('x', checkpoint='x.pth', format_only=True), 'test')
    assert cfg.test_evaluator.format_only is True
    assert cfg.test_evaluator.outfile_prefix == str(tmp_path / 'submission' / 'results')


def test_files_for_a_server_are_refused_where_no_evaluator_writes_them(tmp_path):
    cfg = get_config('ssdlite_emo_1m_demo')
    cfg.work_dir = str(tmp_path)
    cfg.test_evaluator = [dict(type='DumpDetResults', out_file_path='x.pkl')]
    with pytest.raises(UserError, match=r'--format-only.*DumpDetResults'):
        take(cfg, TEST, EvaluateOptions('x', checkpoint='x.pth', format_only=True), 'test')


@pytest.mark.parametrize('hooks', [{}, dict(visualization=None)])
def test_pictures_are_refused_where_no_hook_draws(hooks):
    cfg = Config(dict(default_scope='mmdet', default_hooks=hooks))
    with pytest.raises(UserError, match='DetVisualizationHook'):
        take(cfg, [testing.pictures], EvaluateOptions('x', checkpoint='x.pth', show_dir='pictures'), 'test')


def test_the_run_reads_what_the_dry_run_told(shapes, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = [
        'train',
        'emo_1m_demo',
        '--data-root',
        str(shapes / 'folders'),
        '--epochs',
        '1',
        '--batch-size',
        '2',
    ]
    assert main([*command, '--workers', '0', '--weights', 'none', '--dry-run']) == 0
    said = capsys.readouterr().out
    assert main(command) == 0
    (dumped,) = (tmp_path / 'work_dirs' / 'emo_1m_demo').glob('*.py')
    cfg = Config.fromfile(str(dumped))
    assert (cfg.train_cfg.max_epochs, cfg.train_dataloader.batch_size) == (1, 2)
    assert 'train_cfg.max_epochs: 50 -> 1' in said
    assert json.loads((tmp_path / 'work_dirs' / 'emo_1m_demo' / 'metrics.json').read_text())['last']


def test_a_test_leaves_the_config_of_the_training_as_it_is_and_loads_nothing_but_its_checkpoint(
    shapes, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    data = ['--data-root', str(shapes / 'folders'), '--workers', '0']
    assert main(['train', 'emo_1m_demo', *data, '--epochs', '1', '--batch-size', '2', '--weights', 'none']) == 0
    dumped = tmp_path / 'work_dirs' / 'emo_1m_demo' / 'emo_1m_demo.py'
    before = dumped.read_text()
    checkpoint = sorted(dumped.parent.glob('*.pth'))[-1]
    assert main(['test', 'emo_1m_demo', str(checkpoint), *data]) == 0
    assert dumped.read_text() == before
    # as the config of a resumed training has it; MMEngine would load that file over the checkpoint
    dumped.write_text(f"{before}\nload_from = 'gone.pth'\nresume = True\n")
    assert main(['test', str(dumped), str(checkpoint), *data]) == 0


@pytest.mark.parametrize(
    ('setting', 'words'),
    [
        ('model.backbon.arch=2m', "no argument 'backbon'; did you mean backbone"),
        ('model.backbone.drop_path_rat=0.1', 'did you mean drop_path_rate'),
        ('model.backbone.arch=3m', "arch is '3m'"),
        ('optim_wrapper.optimiser.lr=0.1', "no argument 'optimiser'; did you mean optimizer"),
        ('optim_wrapper.optimizer.lr=abc', "optim_wrapper.optimizer.lr is 'abc'; it must be a number"),
    ],
)
def test_a_dry_run_refuses_what_a_training_would(shapes, tmp_path, monkeypatch, capsys, setting, words):
    monkeypatch.chdir(tmp_path)
    command = ['train', 'ssdlite_emo_1m_demo', '--data-root', str(shapes), '--weights', 'none', '--dry-run']
    assert main([*command, '--cfg-options', setting]) == 1
    said = capsys.readouterr().err
    assert words in said
    assert 'Traceback' not in said


def _one_file(root):
    write_split(root / 'annotations.json', root / 'images', annotations(images=10))


def _colour_masks(root):
    write_masks(root, 'sky\nroad\n')
    for path in root.rglob('*.png'):
        if 'ann' in path.parts[-3] or 'mask' in path.parts[-3]:
            Image.fromarray(np.array([[0, 0, 9], [9, 0, 0]], np.uint8)[np.array(Image.open(path)) % 2]).save(path)
    (root / 'class_dict.csv').write_text('name,r,g,b\nsky,0,0,9\nroad,9,0,0\n')
    (root / 'CLASSES.txt').unlink(missing_ok=True)


@pytest.mark.parametrize(
    ('build', 'config', 'options'),
    [
        (yolo, 'ssdlite_emo_1m_demo', ['--anchors', 'auto']),
        (_one_file, 'ssdlite_emo_1m_demo', ['--split', '0.5/0.5', '--balance']),
        (_colour_masks, 'deeplabv3_emo_1m_demo', ['--class-weights', 'auto']),
    ],
)
def test_a_dry_run_goes_through_all_steps_on_data_that_a_run_converts(
    build, config, options, tmp_path, monkeypatch, capsys
):
    build(tmp_path / 'data')
    work = tmp_path / 'empty'
    work.mkdir()
    monkeypatch.chdir(work)
    assert main(['train', config, '--data-root', str(tmp_path / 'data'), *options, '--dry-run']) == 0
    said = capsys.readouterr().out
    assert 'nothing was trained or written' in said
    assert str(work / 'work_dirs' / config / 'checked_data') in said  # and no place that is gone by now
    assert list(work.iterdir()) == []


@pytest.mark.parametrize(('purpose', 'sizes'), [('train', (3, 16)), ('test', (8, 3))])
def test_the_batch_size_is_that_of_what_is_trained_or_tested_on(purpose, sizes):
    options = {
        'train': TrainOptions('x', batch_size=3),
        'test': EvaluateOptions('x', checkpoint='x.pth', batch_size=3),
    }[purpose]
    cfg = get_config('ssdlite_emo_1m_demo')
    take(cfg, [loaders.batches], options, purpose)
    assert (cfg.train_dataloader.batch_size, cfg.test_dataloader.batch_size) == sizes
