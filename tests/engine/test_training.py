"""A training through the command line: what it leaves, how it resumes, and what it refuses."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
import toy_training as toy
from mmengine.config import Config

from emo_mm.data.shapes.generate import generate
from emo_mm.engine.train import fetch_weights
from emo_mm.errors import UserError
from emo_mm.weights.checkpoint import threshold_in

pytestmark = pytest.mark.toolbox

SMALL = ['ssdlite_emo_1m_demo', '--workers', '0', '--batch-size', '2', '--seed', '0']


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    return generate(tmp_path_factory.mktemp('data') / 'shapes', num_train=8, num_val=4).root


def command(*args):
    return [sys.executable, '-m', 'emo_mm.cli', *map(str, args)]


def environment(**more):
    return {**os.environ, 'OMP_NUM_THREADS': '1', **more}


@pytest.fixture(scope='module')
def run(shapes, tmp_path_factory):
    """A training of two epochs, evaluated after each."""
    work_dir = tmp_path_factory.mktemp('run')
    args = ['train', *SMALL, '--epochs', 2, '--data-root', shapes, '--work-dir', work_dir]
    done = subprocess.run(
        command(*args, '--cfg-options', 'train_cfg.val_interval=1'),
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return work_dir, done


def test_a_training_leaves_checkpoints_metrics_curves_and_pictures(run):
    work_dir, done = run
    metrics = json.loads((work_dir / 'metrics.json').read_text())
    assert metrics['config'] == 'ssdlite_emo_1m_demo'
    assert metrics['history']['coco/bbox_mAP_50']['step'] == [1, 2]
    assert 0 <= metrics['last']['coco/bbox_mAP_50'] <= 1
    assert (work_dir / metrics['checkpoint']).is_file()
    for picture in ('curves.png', 'predictions.png'):
        assert (work_dir / picture).read_bytes().startswith(b'\x89PNG')
    assert 'train: annotations/instances_train.json: 8 of 8 images found' in done.stdout
    assert '8/8' in done.stderr  # the progress bar, over both epochs


def test_the_report_is_one_page_with_the_figures_of_each_class_as_json_and_csv_too(run):
    work_dir, _ = run
    metrics, report = (json.loads((work_dir / f'{name}.json').read_text()) for name in ('metrics', 'report'))
    assert report['metrics'] == metrics['best']
    ap = [row['AP'] for row in report['classes'] if row['AP'] is not None]
    assert sum(ap) / len(ap) == pytest.approx(metrics['best']['coco/bbox_mAP'], abs=6e-4)  # the toolbox rounds
    with (work_dir / 'report.csv').open(newline='') as file:
        rows = list(csv.DictReader(file))
    assert [row['class'] for row in rows] == ['circle', 'square', 'triangle', 'star']
    page = (work_dir / 'report.html').read_text()
    assert 'train: annotations/instances_train.json: 8 of 8 images found' in page
    assert '--data-root' in report['command']
    assert 'src="http' not in page


def test_the_best_threshold_is_in_the_checkpoint_and_prediction_uses_it(run, shapes, run_cli, tmp_path):
    work_dir, _ = run
    report = json.loads((work_dir / 'report.json').read_text())
    best = work_dir / report['checkpoint']
    assert threshold_in(torch.load(best, weights_only=True)['meta']) == report['threshold'] == report['best_threshold']
    image = next((shapes / 'images' / 'val').iterdir())
    result = run_cli('predict', image, '--model', best, '--save-json', '--out', tmp_path / 'p')
    assert result.code == 0, result.err
    assert f'above {report["threshold"]:g}' in result.err


def test_settings_and_environment_are_in_the_log_file_only(run):
    work_dir, done = run
    (log,) = work_dir.glob('*/*.log')
    logged, shown = log.read_text(), done.stdout + done.stderr
    for words in ('System environment:', 'Config:', 'Hooks will be executed'):
        assert words in logged
        assert words not in shown
    assert 'OneDL' not in shown
    assert 'creating index' not in shown
    assert 'Epoch(val) [2]' in shown


def test_its_checkpoints_are_plain_data_and_hold_the_classes(run):
    checkpoint = torch.load(run[0] / 'epoch_2.pth', weights_only=True)
    assert tuple(checkpoint['meta']['dataset_meta']['classes']) == ('circle', 'square', 'triangle', 'star')
    assert set(checkpoint) >= {'state_dict', 'optimizer', 'param_schedulers', 'message_hub'}


def test_testing_its_checkpoint_repeats_its_figures(run, shapes, run_cli, tmp_path):
    work_dir = run[0]
    args = ['test', 'ssdlite_emo_1m_demo', work_dir / 'epoch_2.pth', '--data-root', shapes, '--workers', '0']
    result = run_cli(*args, '--work-dir', tmp_path, '--out', tmp_path / 'out.json', '--show-dir', tmp_path / 'show')
    assert result.code == 0
    assert 'backbone' in result.out + result.err or 'tensors loaded' in result.out + result.err
    written = json.loads((tmp_path / 'out.json').read_text())
    trained = json.loads((work_dir / 'metrics.json').read_text())
    assert written['metrics']['coco/bbox_mAP'] == pytest.approx(trained['last']['coco/bbox_mAP'], abs=2e-3)
    report = json.loads((tmp_path / 'test_report.json').read_text())
    assert report['metrics'] == written['metrics']
    assert list((tmp_path / 'show').rglob('*.jpg')) or list((tmp_path / 'show').rglob('*.png'))


def test_a_checkpoint_for_other_classes_is_not_tested(run, shapes, run_cli, tmp_path):
    checkpoint = torch.load(run[0] / 'epoch_2.pth', weights_only=True)
    checkpoint['meta']['dataset_meta']['classes'] = ('square', 'circle', 'triangle', 'star')
    torch.save(checkpoint, tmp_path / 'other.pth')
    args = ['--data-root', shapes, '--workers', '0', '--work-dir', tmp_path]
    result = run_cli('test', 'ssdlite_emo_1m_demo', tmp_path / 'other.pth', *args)
    assert result.code == 1
    assert 'square, circle' in result.err
    assert not (tmp_path / 'test_metrics.json').exists()


def signal_when(condition, args, signum):
    """Start a command, send it a signal once a condition holds, and return its exit code."""
    process = subprocess.Popen(command(*args), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment())
    deadline = time.monotonic() + 1200
    while not condition():
        assert process.poll() is None, 'the training ended before the signal'
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signum)
    return process.wait()


def test_a_training_stopped_and_then_killed_ends_with_the_weights_of_an_undisturbed_one(shapes, run, tmp_path):
    args = ['train', *SMALL, '--epochs', 2, '--data-root', shapes, '--work-dir', tmp_path]
    options = ['--cfg-options', 'train_cfg.val_interval=1', 'default_hooks.logger.interval=1']
    logs = '*/vis_data/scalars.json'
    code = signal_when(
        lambda: any(log.stat().st_size for log in tmp_path.glob(logs)), [*args, *options], signal.SIGTERM
    )
    assert code == 143
    assert len(list(tmp_path.glob('stopped_iter_*.pth'))) == 1
    pointer = tmp_path / 'last_checkpoint'
    resumed = [*args, '--resume', *options]
    assert signal_when(lambda: 'epoch_1' in pointer.read_text(), resumed, signal.SIGKILL) == -signal.SIGKILL
    assert not (tmp_path / 'metrics.json').exists()
    done = subprocess.run(
        command(*args, '--resume', *options), capture_output=True, text=True, env=environment(), check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert 'resumed epoch: 1, iter: 4' in done.stdout + done.stderr
    rates = {}
    for log in sorted(tmp_path.glob(logs)):
        for line in map(json.loads, log.read_text().splitlines()):
            if 'lr' in line:
                rates[line['step']] = line['lr']
    whole = torch.load(run[0] / 'epoch_2.pth', weights_only=True)
    resumed = torch.load(tmp_path / 'epoch_2.pth', weights_only=True)
    assert sorted(rates) == list(range(1, 9))
    assert resumed['meta']['iter'] == whole['meta']['iter'] == 8
    assert resumed['optimizer']['param_groups'][0]['lr'] == whole['optimizer']['param_groups'][0]['lr']
    for part in ('state_dict', 'ema_state_dict', 'optimizer'):
        assert toy.differences(resumed[part], whole[part]) == []


def test_two_processes_train_as_one_with_synchronised_batchnorm(shapes, repo_root, tmp_path):
    script = repo_root / 'tools' / 'dist_train.sh'
    args = [*SMALL, '--epochs', 1, '--data-root', shapes, '--work-dir', tmp_path]
    done = subprocess.run(
        ['bash', str(script), SMALL[0], '2', *map(str, args[1:])],
        capture_output=True,
        text=True,
        env=environment(PYTHON=sys.executable),
        check=False,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-3000:]
    assert 'are synchronised over 2 processes' in output
    assert '6 metrics and the weights are equal on 2 ranks' in output
    checkpoint = torch.load(tmp_path / 'epoch_1.pth', weights_only=True)
    assert checkpoint['meta']['iter'] == 2  # 8 images, 2 processes of 2
    assert (tmp_path / 'metrics.json').is_file()


def test_a_single_image_left_over_in_an_epoch_does_not_stop_the_training(tmp_path, run_cli, shapes):
    root = generate(tmp_path / 'shapes', num_train=3, num_val=2).root
    args = ['train', *SMALL, '--epochs', 1, '--data-root', root, '--work-dir', tmp_path / 'run']
    assert run_cli(*args).code == 0
    assert torch.load(tmp_path / 'run/epoch_1.pth', weights_only=True)['meta']['iter'] == 1


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['train', 'ssdlite_emo_3m_coco'], 'did you mean ssdlite_emo_'),
        (['train', 'configs/det/none.py'], 'no file'),
        (['train', 'ssdlite_emo_1m_coco', '--data-root', 'nowhere'], 'nowhere'),
        (['train', 'ssdlite_emo_1m_demo', '--cfg-options', 'modle.backbone.arch=2m'], 'did you mean model'),
        (['train', 'ssdlite_emo_1m_demo', '--cfg-options', 'lr'], 'KEY=VALUE'),
        (['test', 'ssdlite_emo_1m_demo', 'missing.pth'], 'missing.pth'),
    ],
)
def test_faults_of_the_user_are_one_line_and_exit_with_1(args, message, run_cli, shapes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data' / 'shapes').symlink_to(shapes)
    result = run_cli(*args)
    assert result.code == 1
    assert message in result.err
    assert 'Traceback' not in result.err


def test_the_published_recipe_without_its_data_says_what_is_missing(run_cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run_cli('train', 'ssdlite_emo_2m_coco')
    assert result.code == 1
    assert 'instances_train2017.json' in result.err
    assert 'make demo' in result.err


def test_wrong_usage_exits_with_2(run_cli):
    assert run_cli('train').code == 2
    assert run_cli('fly').code == 2
    assert run_cli('train', 'x', '--epochs', 'many').code == 2


def test_predictions_on_own_data_are_drawn_also_with_a_checkpoint_whose_colours_are_lists(run, shapes, tmp_path):
    work_dir, _ = run
    (best,) = work_dir.glob('best_*.pth')
    old = torch.load(best, weights_only=True)
    old['meta']['dataset_meta']['palette'] = [list(colour) for colour in old['meta']['dataset_meta']['palette']]
    torch.save(old, tmp_path / 'old.pth')
    args = ['test', *SMALL[:3], tmp_path / 'old.pth', '--data-root', shapes, '--work-dir', tmp_path / 'work']
    done = subprocess.run(
        command(*args, '--show-dir', tmp_path / 'pictures'),
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(list((tmp_path / 'pictures').glob('*.*'))) == 4
    draw = (
        'import sys; from mmdet.apis import DetInferencer; from emo_mm.config.names import find_config\n'
        'config, weights, image, out = sys.argv[1:]\n'
        'inferencer = DetInferencer(str(find_config(config)), weights, device="cpu", show_progress=False)\n'
        'inferencer(image, out_dir=out, pred_score_thr=0.0)'
    )
    image = next((shapes / 'images').rglob('*.jpg'), None) or next(shapes.rglob('*.jpg'))
    args = [sys.executable, '-c', draw, SMALL[0], tmp_path / 'old.pth', image, tmp_path / 'drawn']
    done = subprocess.run(list(map(str, args)), capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(list((tmp_path / 'drawn').rglob('*.jpg'))) == 1


def test_a_checkpoint_of_other_classes_is_not_resumed(run, shapes, run_cli, tmp_path):
    work_dir, _ = run
    old = torch.load(work_dir / 'epoch_2.pth', weights_only=True)
    old['meta']['dataset_meta']['classes'] = ('cat', 'dog')
    torch.save(old, tmp_path / 'epoch_2.pth')
    args = [
        'train',
        *SMALL,
        '--data-root',
        shapes,
        '--work-dir',
        tmp_path / 'work',
        '--resume',
        tmp_path / 'epoch_2.pth',
    ]
    done = run_cli(*args)
    assert done.code == 1
    assert '2 classes (cat, dog)' in done.err
    assert '--weights' in done.err
    assert done.err.count('\n') == 1


@pytest.mark.parametrize('name', ['torchvision://resnet18', 'open-mmlab://resnet50'])
def test_names_of_other_libraries_are_left_to_mmengine(name):
    fetch_weights(Config(dict(model=dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint=name))))))


def test_weights_that_cannot_be_downloaded_name_the_way_without(monkeypatch, tmp_path):
    monkeypatch.setenv('EMO_MM_CACHE', str(tmp_path))
    cfg = Config(
        dict(model=dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='http://127.0.0.1:9/w.pth'))))
    )
    with pytest.raises(UserError, match='--weights none'):
        fetch_weights(cfg)
