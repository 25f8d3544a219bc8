"""The tools that profile: they see every part of a real run once, which sum up to the whole."""

import json
import sys

import profile_data_path as tool
import pytest
from profile_coco_metric import time_coco_metrics
from profile_data_path import Clock, profile_data_path, write_profiles

from emo_mm.data.shapes.generate import generate
from emo_mm.data.splits import DataRequest
from emo_mm.engine.options import RunOptions
from emo_mm.errors import UserError

pytestmark = pytest.mark.toolbox


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    return generate(tmp_path_factory.mktemp('data') / 'shapes', num_train=4, num_val=4).root


def profile(config, shapes, **more):
    options = RunOptions(config, data=DataRequest(data_root=str(shapes)), batch_size=2)
    return profile_data_path(options, iters=1, **more)


def test_time_inside_a_section_counts_for_the_inner_one_alone(monkeypatch):
    now = iter(range(100))
    monkeypatch.setattr('time.process_time', lambda: float(next(now)))  # each reading is a second after the last
    clock = Clock()
    inner = clock.timed(lambda: 'result', 'a', 'inner')
    with clock.section('a', 'outer'):
        assert inner() == 'result'
        assert inner() == 'result'
    assert clock.cpu == {('a', 'outer'): 3, ('a', 'inner'): 2}
    assert clock.calls == {('a', 'outer'): 1, ('a', 'inner'): 2}


def test_a_section_that_fails_is_closed():
    clock = Clock()
    with pytest.raises(KeyError), clock.section('a', 'b'):
        raise KeyError
    with clock.section('c', 'd'):
        pass
    assert dict(clock.calls) == {('a', 'b'): 1, ('c', 'd'): 1}


PARTS = {
    'ssdlite_emo_1m_demo': {'MinIoURandomCrop': 2, 'PackDetInputs': 2, 'losses and target assignment': 1},
    'deeplabv3_emo_1m_demo': {'RandomCrop': 2, 'PackSegInputs': 2, 'backward': 1},
    'emo_1m_demo': {'RandomFlip': 2, 'PackInputs': 2, 'forward': 1},
}
EVALUATION = {
    'ssdlite_emo_1m_demo': {'predict_by_feat': 1, 'add_pred_to_datasample': 1},
    'deeplabv3_emo_1m_demo': {'postprocess_result': 1},
    'emo_1m_demo': {'_get_predictions': 1},
}


@pytest.mark.parametrize('config', list(PARTS))
def test_a_profile_has_every_part_of_a_training_and_an_evaluation(config, shapes):
    found = profile(config, shapes)
    assert found.images == {'training': 2, 'evaluation': 4}
    calls = {phase: {part.name: part.calls for part in found.parts if part.phase == phase} for phase in found.images}
    assert PARTS[config].items() <= calls['training'].items()
    assert calls['training'] | {'LoadImageFromFile': 2, 'collation': 1, 'optimizer step': 2} == calls['training']
    batches = calls['evaluation']['collation']
    assert {name: calls['evaluation'][name] for name in EVALUATION[config]} == {
        name: batches * number for name, number in EVALUATION[config].items()
    }
    assert calls['evaluation'] | {'LoadImageFromFile': 4, 'evaluation': 1} == calls['evaluation']
    for phase in found.images:
        groups = {part.group for part in found.parts if part.phase == phase}
        assert {'loading', 'decoding', 'transforms', 'packing', 'collation', 'preprocessing', 'model'} <= groups
        assert sum(part.share for part in found.parts if part.phase == phase) == pytest.approx(1)
        assert sum(found.total(phase, group) for group in groups) == pytest.approx(found.total(phase))
    assert found.metrics


def test_the_other_side_of_a_comparison_runs_the_toolbox_and_finds_the_same(shapes, tmp_path):
    ours, theirs = (profile('ssdlite_emo_1m_demo', shapes, toolbox_parts=toolbox) for toolbox in (False, True))
    assert ours.metrics == theirs.metrics
    assert ours.boxes == theirs.boxes
    write_profiles([theirs, ours], tmp_path / 'profile')
    assert [row['toolbox_parts'] for row in json.loads((tmp_path / 'profile.json').read_text())] == [True, False]
    tables = (tmp_path / 'profile.md').read_text()
    assert tables.count('| evaluation | post-processing |') == 1
    assert '4 images' in tables


def test_faults_are_named(shapes, monkeypatch, capsys):
    with pytest.raises(UserError, match='--iters 0'):
        profile_data_path(RunOptions('ssdlite_emo_1m_demo', data=DataRequest(data_root=str(shapes))), iters=0)
    monkeypatch.setattr(sys, 'argv', ['profile_data_path.py', 'ssdlite_emo_9m'])
    assert tool.main() == 1
    assert 'did you mean' in capsys.readouterr().err


def test_the_coco_metrics_agree_on_made_up_detections(shapes):
    found = time_coco_metrics(shapes / 'annotations/instances_val.json', copies=2)
    figures = [{key: value for key, value in row.items() if key != 'seconds'} for row in found.values()]
    assert 'CocoMetric' in found
    assert 0 < figures[0]['coco/bbox_mAP_50'] < 1
    assert all(row == figures[0] for row in figures)


def test_a_metric_is_timed_on_at_least_one_copy(shapes):
    with pytest.raises(UserError, match='copies is 0'):
        time_coco_metrics(shapes / 'annotations/instances_val.json', copies=0)
