from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from emo_mm.errors import UserError
from emo_mm.report.curves import plot_curves, read_scalars


def train_line(step: int, loss: float, epoch: int | None = 1) -> str:
    entry = {'lr': 0.001, 'loss': loss, 'loss_cls': loss / 2, 'time': 0.1, 'data_time': 0.0, 'iter': step, 'step': step}
    return json.dumps(entry if epoch is None else {**entry, 'epoch': epoch})


def val_line(step: int, value: float, name: str = 'coco/bbox_mAP') -> str:
    return json.dumps({name: value, 'time': 0.1, 'data_time': 0.0, 'step': step})


def write_run(work_dir: Path, timestamp: str, lines: list[str], ending: str = '\n') -> Path:
    path = work_dir / timestamp / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True)
    path.write_text('\n'.join(lines) + ending)
    return path


def test_series_hold_what_was_logged(tmp_path):
    write_run(tmp_path, '20240101_000000', [train_line(1, 4.0), train_line(2, 3.0), val_line(1, 0.25)])
    scalars = read_scalars(tmp_path)
    assert scalars.train['loss'].steps.tolist() == [1, 2]
    assert scalars.train['loss'].values.tolist() == [4.0, 3.0]
    assert set(scalars.train) == {'lr', 'loss', 'loss_cls', 'epoch'}
    assert scalars.val['coco/bbox_mAP'].values.tolist() == [0.25]
    assert set(scalars.val) == {'coco/bbox_mAP'}
    assert scalars.val_by_epoch


def test_resumed_run_replaces_what_the_killed_one_logged_after_the_checkpoint(tmp_path):
    first = [train_line(10, 9.0, 1), val_line(1, 0.1), train_line(20, 8.0, 2), val_line(2, 0.9), train_line(30, 7.9, 3)]
    resumed = [train_line(20, 5.0, 2), val_line(2, 0.2), train_line(30, 4.0, 3), val_line(3, 0.3)]
    # Written in the wrong order on purpose: the timestamps decide.
    write_run(tmp_path, '20240102_000000', resumed)
    write_run(tmp_path, '20240101_000000', first)
    scalars = read_scalars(tmp_path)
    assert scalars.train['loss'].steps.tolist() == [10, 20, 30]
    assert scalars.train['loss'].values.tolist() == [9.0, 5.0, 4.0]
    assert scalars.val['coco/bbox_mAP'].steps.tolist() == [1, 2, 3]
    assert scalars.val['coco/bbox_mAP'].values.tolist() == [0.1, 0.2, 0.3]


def test_training_begun_anew_hides_the_old_one(tmp_path):
    write_run(tmp_path, '20240101_000000', [train_line(10, 9.0), train_line(20, 8.0, 2), val_line(2, 0.9)])
    write_run(tmp_path, '20240102_000000', [train_line(10, 5.0)])
    scalars = read_scalars(tmp_path)
    assert scalars.train['loss'].values.tolist() == [5.0]
    assert scalars.val == {}


def test_validation_counted_in_iterations_is_told_from_epochs(tmp_path):
    lines = [train_line(50, 2.0, None), train_line(100, 1.0, None), val_line(100, 30.0, 'mIoU')]
    write_run(tmp_path, '20240101_000000', lines)
    assert not read_scalars(tmp_path).val_by_epoch


def test_file_of_a_mere_validation_is_passed_over(tmp_path):
    write_run(tmp_path, '20240101_000000', [train_line(10, 9.0), val_line(1, 0.1)])
    write_run(tmp_path, '20240102_000000', [val_line(0, 0.7)])
    assert read_scalars(tmp_path).val['coco/bbox_mAP'].values.tolist() == [0.1]


def test_half_written_last_line_is_tolerated_but_a_damaged_one_within_is_not(tmp_path):
    path = write_run(tmp_path, '20240101_000000', [train_line(10, 9.0), '{"loss": 3.0, "it'], ending='')
    assert read_scalars(tmp_path).train['loss'].values.tolist() == [9.0]
    path.write_text('{"loss": 3.0, "it\n' + train_line(10, 9.0) + '\n')
    with pytest.raises(UserError, match=r'scalars\.json, line 1 is not'):
        read_scalars(tmp_path)


def test_folder_without_a_training_log_is_an_error_that_names_it(tmp_path):
    with pytest.raises(UserError, match='nothing_here holds no training log'):
        read_scalars(tmp_path / 'nothing_here')


@pytest.mark.parametrize(
    ('task', 'metric'), [('det', 'coco/bbox_mAP_50'), ('seg', 'mIoU'), ('cls', 'accuracy/top1'), ('cls', 'own/metric')]
)
def test_both_panels_are_drawn_for_each_task(tmp_path, task, metric):
    lines = []
    for epoch in range(1, 6):
        lines += [train_line(epoch * 10, math.nan if epoch == 3 else 5.0 / epoch, epoch)]
        lines += [val_line(epoch, 0.1 * epoch, metric)]
    write_run(tmp_path, '20240101_000000', lines)
    plot_curves(tmp_path, tmp_path / 'new' / 'curves.png', task)
    picture = np.asarray(Image.open(tmp_path / 'new' / 'curves.png').convert('RGB')).astype(int)
    assert picture.shape[1] > 800
    half = picture.shape[1] // 2
    for part in (picture[:, :half], picture[:, half:]):
        blue = (part[..., 2] - part[..., 0] > 100).sum()  # the first series of either panel is blue
        assert blue > 200


def val_loss_line(step: int, iteration: int, loss: float) -> str:
    return json.dumps(
        {**json.loads(val_line(step, 0.2)), 'val_loss': loss, 'val_loss_cls': 1.0, 'iteration': iteration}
    )


def test_the_validation_loss_is_placed_at_its_iteration_also_in_a_resumed_run(tmp_path):
    # 15 iterations an epoch, of which every tenth is logged
    first = [train_line(10, 9.0), val_loss_line(1, 15, 3.0), train_line(25, 8.0, 2), val_loss_line(2, 30, 7.0)]
    resumed = [train_line(25, 7.0, 2)]
    write_run(tmp_path, '20240101_000000', first)
    write_run(tmp_path, '20240102_000000', resumed)
    write_run(tmp_path, '20240103_000000', [val_loss_line(2, 30, 2.0)])  # nothing was left but to validate
    scalars = read_scalars(tmp_path)
    assert scalars.val_loss.steps.tolist() == [15, 30]
    assert scalars.val_loss.values.tolist() == [3.0, 2.0]
    assert scalars.val_by_epoch
    assert scalars.val['val_loss'].steps.tolist() == [1, 2]
    assert set(scalars.val) == {'coco/bbox_mAP', 'val_loss', 'val_loss_cls'}


def test_a_validation_that_a_resumed_run_catches_up_on_has_its_iteration(tmp_path):
    write_run(tmp_path, '20240101_000000', [train_line(10, 9.0)])
    write_run(tmp_path, '20240102_000000', [val_loss_line(1, 15, 3.0), train_line(20, 8.0, 2)])
    assert read_scalars(tmp_path).val_loss.steps.tolist() == [15]


def test_without_it_there_is_no_validation_loss(tmp_path):
    write_run(tmp_path, '20240101_000000', [train_line(10, 9.0), val_line(1, 0.1)])
    assert read_scalars(tmp_path).val_loss is None


@pytest.mark.parametrize('task', ['det', 'seg'])  # the metrics of det are drawn, and others where they are not known
def test_the_validation_loss_is_a_line_with_gaps_beside_that_of_the_training(tmp_path, task):
    from emo_mm.report.curves import _draw_losses, _draw_metrics

    lines = []
    for epoch, loss in enumerate((9.0, math.nan, math.inf, 4.0, 5.0), 1):
        lines += [train_line(epoch * 10, 3.0, epoch), val_loss_line(epoch, epoch * 10, loss)]
    write_run(tmp_path, '20240101_000000', lines)
    scalars = read_scalars(tmp_path)
    left, right = Figure().subplots(1, 2)
    _draw_losses(left, scalars)
    (line,) = (line for line in left.lines if line.get_label() == 'validation loss')
    np.testing.assert_array_equal(line.get_ydata(), [9.0, math.nan, math.nan, 4.0, 5.0])
    assert line.get_xdata().tolist() == [10, 20, 30, 40, 50]
    assert line.get_marker() == 'o'
    assert left.get_title() == 'Training and validation loss'
    assert left.get_ylim()[1] > 9
    _draw_metrics(right, scalars, task)
    assert not [line for line in right.lines if 'loss' in line.get_label()]
    plot_curves(tmp_path, tmp_path / 'curves.png', task)


def test_a_run_killed_before_its_first_validation_is_still_drawn(tmp_path):
    write_run(tmp_path, '20240101_000000', [train_line(5, 2.0)])
    plot_curves(tmp_path, tmp_path / 'curves.png', 'det')
    picture = np.asarray(Image.open(tmp_path / 'curves.png').convert('RGB')).astype(int)
    assert (picture[..., 2] - picture[..., 0] > 100).sum() > 20  # the one point has a marker


def test_title_is_the_name_of_the_newest_config(tmp_path):
    from emo_mm.report.curves import _config_name

    assert _config_name(tmp_path) == tmp_path.name
    for name, age in (('newer.py', 100), ('older.py', 200)):
        (tmp_path / name).write_text('')
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    assert _config_name(tmp_path) == 'newer'


def test_unknown_task_is_refused(tmp_path):
    with pytest.raises(ValueError, match="got 'pose'"):
        plot_curves(tmp_path, tmp_path / 'curves.png', 'pose')
