"""What is said at the end of a training that came to nothing."""

from __future__ import annotations

import pytest

from emo_mm.engine.reports.verdict import verdict
from emo_mm.tasks import TASKS

LINES = ('train: 448 of 448 images found', 'anchors: 12% of the boxes have one; --anchors auto chooses them')


def test_a_detector_that_finds_nothing_is_told_with_the_advice_that_was_given_before() -> None:
    told = verdict(TASKS['det'], {'coco/bbox_mAP_50': 0.005}, 20, True, 1120, LINES)
    assert told is not None
    first, *advice = told.split('\n  - ')
    assert first == (
        'coco/bbox_mAP_50 is 0.005 on the validation images: this detector finds next to nothing. What may help:'
    )
    assert advice == ['more steps: it made 1120, and --epochs 60 makes 3 times as many', LINES[1]]


def test_a_training_counted_in_iterations_is_told_the_flag_for_them() -> None:
    told = verdict(TASKS['ins'], {'coco/segm_mAP_50': 0.0}, 200, False, 200, ())
    assert told is not None
    assert '--iters 600' in told


@pytest.mark.parametrize(
    ('task', 'figures'),
    [
        ('det', {'coco/bbox_mAP_50': 0.3}),
        ('det', {}),
        ('ins', {'coco/bbox_mAP_50': 0.0, 'coco/segm_mAP_50': 0.2}),
        ('cls', {'accuracy/top1': 0.0}),
        ('seg', {'mIoU': 0.0}),
    ],
)
def test_nothing_is_said_of_a_model_that_finds_something_or_was_not_measured(task: str, figures: dict) -> None:
    assert verdict(TASKS[task], figures, 20, True, 1120, LINES) is None
