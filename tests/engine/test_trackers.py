"""Trackers: added by a flag, beside the log that the report reads, and no reason to stop a training."""

import json
import logging
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from planning import take

from emo_mm.config.names import get_config
from emo_mm.engine import trackers as backends
from emo_mm.engine.options import TrainOptions
from emo_mm.engine.overrides import merge
from emo_mm.engine.steps import trackers
from emo_mm.engine.train import _forget_trackers
from emo_mm.errors import UserError
from emo_mm.registry import VISBACKENDS

DET = 'ssdlite_emo_1m_demo'


def plan(cfg, track=None):
    options = TrainOptions(DET, track=track)
    cfg.work_dir = 'runs/mine'
    return take(cfg, [trackers.track, trackers.local_log], options, 'train')


@pytest.fixture
def installed(monkeypatch):
    """All trackers are installed, as far as a plan can tell."""
    monkeypatch.setattr(trackers, 'find_spec', lambda name: object())


def kinds(cfg):
    return [one.get('backend', one)['type'] for one in cfg.visualizer.vis_backends]


def test_trackers_come_after_the_local_log(installed, monkeypatch):
    monkeypatch.delenv('MLFLOW_TRACKING_URI', raising=False)
    cfg = get_config(DET)
    lines, _ = plan(cfg, 'tensorboard,wandb,mlflow')
    assert kinds(cfg) == ['LocalVisBackend', 'TensorboardVisBackend', 'WandbVisBackend', 'MLflowVisBackend']
    assert [one.get('type') for one in cfg.visualizer.vis_backends[1:]] == ['emo_mm.Tracker'] * 3
    assert cfg.visualizer.vis_backends[3].backend.tracking_uri.endswith('runs/mine/mlflow.db')
    assert lines == []


def test_the_server_that_mlflow_is_set_to_is_kept(installed, monkeypatch):
    monkeypatch.setenv('MLFLOW_TRACKING_URI', 'http://mine:5000')
    cfg = get_config(DET)
    plan(cfg, 'mlflow')
    assert cfg.visualizer.vis_backends[1].backend == {
        'type': 'MLflowVisBackend',
        'exp_name': 'mine',
        'tracking_uri': 'http://mine:5000',
    }


def test_the_local_log_stays_where_another_backend_takes_its_place(installed):
    cfg = get_config(DET)
    merge(cfg, {'visualizer.vis_backends.0.type': 'TensorboardVisBackend'})
    lines, _ = plan(cfg)
    assert kinds(cfg) == ['LocalVisBackend', 'TensorboardVisBackend']
    assert lines == ['LocalVisBackend is added to the visualizer: the report reads its log']
    plan(cfg, 'tensorboard')  # there already
    assert kinds(cfg) == ['LocalVisBackend', 'TensorboardVisBackend']


def test_an_unknown_tracker_and_one_that_is_not_installed_are_told(monkeypatch):
    with pytest.raises(UserError, match='--track tensorbord: it must be of tensorboard, wandb, mlflow'):
        plan(get_config(DET), 'tensorbord')
    monkeypatch.setattr(trackers, 'find_spec', lambda name: None)
    with pytest.raises(UserError, match=r"--track wandb needs wandb, which is not installed: pip install 'emo-mm\["):
        plan(get_config(DET), 'wandb')


@pytest.mark.parametrize('name', trackers.TRACKERS)
def test_each_tracker_has_an_extra(name, repo_root):
    assert f"'track-{name}'" in (repo_root / 'setup.py').read_text()


def test_a_checkpoint_does_not_carry_the_trackers(installed):
    cfg = get_config(DET)
    plan(cfg, 'wandb')
    _forget_trackers(SimpleNamespace(cfg=cfg))
    assert cfg.visualizer.vis_backends == [{'type': 'LocalVisBackend'}]


def test_a_tracker_that_fails_warns_once_and_stops_nothing(tmp_path, monkeypatch, caplog):
    class Broken:
        calls = 0

        def __init__(self, save_dir):
            self.save_dir = save_dir

        def __getattr__(self, name):
            def fail(*values, **settings):
                Broken.calls += 1
                raise ConnectionError('the network is down')

            return fail

    monkeypatch.setattr(backends.MMENGINE_VISBACKENDS, 'build', lambda settings: Broken(settings['save_dir']))
    said = []
    monkeypatch.setattr(backends, 'print_log', lambda text, logger, level: said.append((text, level)))
    tracker = VISBACKENDS.build(dict(type='Tracker', save_dir=str(tmp_path), backend=dict(type='Broken')))
    for step in range(3):
        tracker.add_scalars({'loss': 1.0}, step)
        tracker.add_scalar('loss', 1.0, step)
    tracker.add_image('picture', None)
    tracker.add_graph(None, None)
    tracker.add_config(None)
    tracker.close()
    assert tracker.experiment is None or Broken.calls
    assert Broken.calls == 6
    line = 'Broken failed in add_scalars, and the training goes on without it: ConnectionError: the network is down'
    assert said == [(line, logging.WARNING)]


@pytest.mark.toolbox
@pytest.mark.parametrize('name', ['tensorboard', 'mlflow'])
def test_a_tracker_logs_a_training_beside_the_report(name, tmp_path):
    pytest.importorskip(name, reason=f'{name} is not installed')
    from emo_mm.data.shapes.generate import generate

    root = generate(tmp_path / 'shapes', num_train=2, num_val=1).root
    words = ['train', DET, '--epochs', '1', '--workers', '0', '--batch-size', '2', '--data-root', str(root)]
    words += ['--work-dir', str(tmp_path / 'run'), '--track', name, '--cfg-options', 'default_hooks.logger.interval=1']
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    environment.pop('MLFLOW_TRACKING_URI', None)
    command = [sys.executable, '-m', 'emo_mm.cli', *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert 'goes on without it' not in done.stdout + done.stderr
    assert json.loads((tmp_path / 'run' / 'metrics.json').read_text())['last']
    found = {'tensorboard': '*/vis_data/events.out.tfevents.*', 'mlflow': 'mlflow.db'}[name]
    assert list((tmp_path / 'run').glob(found))
