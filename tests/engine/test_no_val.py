"""Trainings without validation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from data_trees import annotations, write_coco, write_folders, write_masks, write_split
from planning import load_run_config

from emo_mm.data.splits import DataRequest
from emo_mm.engine.options import EvaluateOptions, TrainOptions
from emo_mm.engine.plan import plan_training
from emo_mm.engine.test import evaluate
from emo_mm.engine.train import train
from emo_mm.errors import UserError


def options(root: Path, config: str, **more: object) -> TrainOptions:
    data = DataRequest(data_root=str(root))
    return TrainOptions(config, work_dir=str(root.parent / 'run'), data=data, no_val=True, **more)  # type: ignore[arg-type]


@pytest.mark.toolbox
def test_a_training_without_validation_ends_with_a_report_and_its_checkpoint_can_be_tested(tmp_path: Path) -> None:
    root, work_dir = tmp_path / 'data', tmp_path / 'run'
    write_folders(root, splits=('train',))
    train(options(root, 'emo_1m_demo', epochs=1, batch_size=3, workers=0))
    metrics = json.loads((work_dir / 'metrics.json').read_text())
    assert (metrics['checkpoint'], metrics['best_score'], metrics['last']) == ('epoch_1.pth', None, {})
    assert (work_dir / 'curves.png').is_file()
    data = DataRequest(data_root=str(root), test_images='train')
    checkpoint = str(work_dir / 'epoch_1.pth')
    found = evaluate(
        EvaluateOptions('emo_1m_demo', work_dir=str(tmp_path / 'test'), data=data, workers=0, checkpoint=checkpoint)
    )
    assert 'accuracy/top1' in found


@pytest.mark.parametrize(
    ('config', 'write'),
    [('ssdlite_emo_1m_demo', write_coco), ('deeplabv3_emo_1m_demo', write_masks), ('emo_1m_demo', write_folders)],
)
def test_nothing_of_a_validation_is_left(tmp_path: Path, config: str, write: object) -> None:
    root = tmp_path / 'data'
    write(root)  # type: ignore[operator]
    plan = plan_training(options(root, config))
    cfg = plan.cfg
    assert [cfg[key] for key in ('val_dataloader', 'val_evaluator', 'val_cfg')] == [None] * 3
    assert 'save_best' not in cfg.default_hooks.checkpoint
    assert 'without validation: the last checkpoint stays' in plan.lines
    assert not any(line.startswith('val: ') for line in plan.lines)


def test_a_test_split_is_taken_without_a_validation(tmp_path: Path) -> None:
    root = tmp_path / 'data'
    write_split(root / 'annotations' / 'train.json', root / 'images', annotations())
    write_split(root / 'annotations' / 'test.json', root / 'images', annotations(images=2))
    cfg, _ = load_run_config(options(root, 'ssdlite_emo_1m_demo'), training=True)
    assert cfg.test_dataloader.dataset.ann_file == 'annotations/test.json'


@pytest.mark.parametrize('given', [{'val_ann': 'x.json'}, {'val_images': 'x'}])
def test_a_validation_split_is_not_given_and_left_out_at_once(tmp_path: Path, given: dict[str, str]) -> None:
    write_coco(tmp_path / 'data')
    run = options(tmp_path / 'data', 'ssdlite_emo_1m_demo')
    run.data = DataRequest(data_root=str(tmp_path / 'data'), **given)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r'--no-val and --val-.* exclude each other'):
        load_run_config(run, training=True)
