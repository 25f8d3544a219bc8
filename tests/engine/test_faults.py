"""What the machine lacks in the midst of a training is told in one message with the setting to change."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
import toy_training as toy
from mmengine.config import Config
from mmengine.registry import DATASETS

from emo_mm.engine.guard.machine import explain_machine_errors, explanation
from emo_mm.errors import UserError

pytestmark = pytest.mark.toolbox


@DATASETS.register_module(force=True)
class FaultyImages(toy.ToyImages):
    """Meets a fault at its seventh image, in the process that loads it."""

    faults: ClassVar = {
        'memory of torch': lambda: torch.empty(1 << 50),
        'memory of numpy': lambda: np.empty(1 << 50),
        'killed': lambda: os.kill(os.getpid(), signal.SIGKILL),
        'bus error': lambda: os.kill(os.getpid(), signal.SIGBUS),
        'crash': lambda: os.kill(os.getpid(), signal.SIGSEGV),
        'exit': lambda: os._exit(3),
        'fault of the code': lambda: {}['missing'],
    }

    def __init__(self, fault):
        super().__init__()
        self.fault = fault

    def __getitem__(self, index):
        if index == 7:
            self.faults[self.fault]()
        return super().__getitem__(index)


def train_with(fault, workers, work_dir):
    cfg = toy.config(work_dir, workers=workers)
    cfg.train_dataloader.dataset = dict(type='FaultyImages', fault=fault)
    cfg.log_level = 'ERROR'
    runner = toy.build(cfg)
    with explain_machine_errors(cfg):
        runner.train()


@pytest.mark.parametrize(
    ('fault', 'workers', 'words'),
    [
        ('memory of torch', 0, ['memory ran out', '--batch-size (now 2)', '--workers', '--cache']),
        ('memory of numpy', 0, ['memory ran out']),
        ('memory of torch', 1, ['memory ran out', "can't allocate memory"]),
        ('memory of numpy', 1, ['memory ran out', 'Unable to allocate']),
        ('killed', 1, ['loader process was killed', '--workers, now 1', '--cache']),
        ('bus error', 1, ['/dev/shm', '--shm-size', '--workers 0']),
        ('crash', 1, ['loader process died of signal Segmentation', '--workers 0']),
        ('exit', 1, ['loader process', '--workers 0']),
    ],
)
def test_a_fault_of_the_machine_names_the_setting_to_change(fault, workers, words, tmp_path):
    with pytest.raises(UserError) as told:
        train_with(fault, workers, tmp_path)
    message = str(told.value)
    assert '\n' not in message
    assert all(word in message for word in [*words, '--resume']), message


def test_other_errors_stay_as_they_are(tmp_path):
    with pytest.raises(KeyError, match='missing'):
        train_with('fault of the code', 0, tmp_path)


def test_a_gpu_that_is_too_small_names_the_batch_size():
    cfg = Config(dict(train_dataloader=dict(batch_size=8, num_workers=2), work_dir='run'))
    message = explanation(torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 20 MiB.\nmore'), cfg)
    assert '--batch-size (now 8)' in message
    assert '--amp' in message
    assert '\n' not in message


@pytest.mark.gpu
def test_a_gpu_that_is_too_small_is_told(tmp_path):
    cfg = toy.config(tmp_path)
    with pytest.raises(UserError, match='GPU has too little memory'), explain_machine_errors(cfg):
        torch.empty(1 << 50, device='cuda')


def test_a_log_that_cannot_be_written_names_the_disk(tmp_path):
    cfg = toy.config(tmp_path)
    with pytest.raises(UserError, match='No space left'), explain_machine_errors(cfg):
        Path('/dev/full').write_text('x')
    with pytest.raises(FileNotFoundError), explain_machine_errors(cfg):
        Path('elsewhere/missing').read_text()


SCRIPT = """
import sys
from pathlib import Path
import toy_training as toy
from emo_mm.engine.guard.machine import explain_machine_errors
from emo_mm.engine.resume.resuming import newest_checkpoint
from emo_mm.errors import UserError
folder, workers, side = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
cfg = toy.config(folder, workers=workers)
cfg.train_dataloader.dataset.side = cfg.val_dataloader.dataset.side = side
try:
    with explain_machine_errors(cfg):
        toy.train(cfg)
except UserError as error:
    print('told:', error)
checkpoint, skipped = newest_checkpoint(folder)
print('left:', checkpoint and checkpoint.epoch, skipped, [path.name for path in folder.glob('.*')])
"""


def train_in_small_space(repo_root, place, size, work_dir, workers=0, side=8):
    """Train where a folder is a file system of its own of some size, which that process alone sees."""
    if shutil.which('unshare') is None or subprocess.run(['unshare', '-m', 'true'], check=False).returncode:
        pytest.skip('needs the right to mount a file system')
    mount = f'mount -t tmpfs -o size={size} none {place} && exec "$@"'
    command = ['unshare', '-m', 'sh', '-c', mount, 'sh', sys.executable, '-c', SCRIPT, work_dir, workers, side]
    paths = f'{repo_root}:{repo_root / "tests"}'
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': paths}
    return subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_shared_memory_that_is_too_small_is_told(repo_root, tmp_path):
    done = train_in_small_space(repo_root, '/dev/shm', '1m', tmp_path, workers=2, side=600)
    assert 'told: /dev/shm' in done.stdout, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize('kilobytes', [70, 100, 150])
def test_a_disk_that_fills_up_is_told_and_leaves_a_whole_checkpoint(repo_root, tmp_path, kilobytes):
    place = tmp_path / 'disk'
    place.mkdir()
    done = train_in_small_space(repo_root, place, f'{kilobytes}k', place / 'run')
    print(done.stdout)
    assert 'told: ' in done.stdout, done.stderr[-2000:]
    assert 'No space left on device' in done.stdout
    left = done.stdout[done.stdout.index('left: ') :].strip()
    assert left in [f'left: {epoch} [] []' for epoch in (1, 2, 3, 4)]
