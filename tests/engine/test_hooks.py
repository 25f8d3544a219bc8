"""Checkpoints hold plain data only, and MMEngine gets its objects back."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from emo_mm.engine.hooks import PlainCheckpointHook, ProgressHook, to_plain

pytestmark = pytest.mark.toolbox


def test_a_checkpoint_becomes_plain_and_mmengine_gets_its_objects_back(tmp_path):
    buffer = HistoryBuffer([1.0, 2.0, 4.0], [1, 1, 2], max_length=10)
    checkpoint = {
        'state_dict': {'w': torch.ones(2)},
        'meta': {'best': np.float64(0.5), 'classes': ('a', 'b'), 'array': np.arange(3)},
        'message_hub': {
            'log_scalars': {'train/loss': buffer},
            'runtime_info': {'iter': 3},
            'resumed_keys': {'iter': True},
        },
    }
    hook = PlainCheckpointHook()
    hook.before_save_checkpoint(None, checkpoint)
    torch.save(checkpoint, tmp_path / 'epoch_1.pth')
    loaded = torch.load(tmp_path / 'epoch_1.pth', weights_only=True)
    assert loaded['meta']['best'] == 0.5
    assert loaded['meta']['classes'] == ('a', 'b')
    hook.after_load_checkpoint(None, loaded)
    restored = loaded['message_hub']['log_scalars']['train/loss']
    assert isinstance(restored, HistoryBuffer)
    np.testing.assert_array_equal(restored.data, buffer.data)
    assert restored.max_length == 10
    assert restored.mean() == buffer.mean()


def test_plain_values_stay_as_they_are():
    value = {'a': [1, (2.0, 'b')], 'c': None, 'd': {1, 2}}
    assert to_plain(value) == value


def test_the_progress_line_names_loss_epoch_and_total(capsys):
    hook = ProgressHook(seconds=0)
    runner = SimpleNamespace(max_iters=3, iter=0, train_loop=None)
    hook.before_train(runner)
    for i in range(3):
        hook.after_train_iter(runner, i, outputs={'loss': torch.tensor(0.25)})
    hook.after_train(runner)
    text = capsys.readouterr().err
    assert '3/3' in text
    assert 'loss=0.250' in text
