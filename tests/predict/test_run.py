"""The steps of ``emo-mm predict``: options, opening, the loop over images, the summary."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from emo_mm.errors import UserError
from emo_mm.predict.options import PredictOptions
from emo_mm.predict.run import Tally, count_images, result_line, summary, written_outcomes
from emo_mm.runtime import Classification, Detections, Outcome, Segmentation


def boxes(number: int) -> Detections:
    return Detections(np.zeros((number, 4)), np.full(number, 0.5), np.zeros(number, int))


@pytest.mark.parametrize(('field', 'value'), [('batch', 0), ('score_threshold', -0.1), ('score_threshold', 1.5)])
def test_a_number_out_of_range_is_refused(field, value):
    with pytest.raises(UserError, match=f'^--{field.replace("_", "-")} is {value}; it must be'):
        PredictOptions(['a.png'], 'm', **{field: value})


@pytest.mark.parametrize(
    ('options', 'noted', 'threshold'),
    [
        ({}, None, 0.3),
        ({}, 0.42, 0.42),
        ({'score_threshold': 0.1}, 0.42, 0.1),
        ({'coco_ids': 'a.json'}, 0.42, None),
        ({'coco_ids': 'a.json', 'score_threshold': 0.1}, None, 0.1),
    ],
)
def test_the_threshold_suits_looking_or_an_evaluation(options, noted, threshold):
    assert PredictOptions(['a.png'], 'm', **options).threshold_for(noted) == threshold


def test_a_tally_counts_images_and_boxes():
    tally = Tally()
    for outcome in (Outcome('a', boxes(2)), Outcome('b', None, 'broken'), Outcome('c', boxes(1))):
        tally = tally.with_one_more(outcome)
    assert tally == Tally(done=2, failed=1, boxes=3)


@pytest.mark.parametrize(
    ('tally', 'saved_to', 'threshold', 'lines'),
    [
        (Tally(1, 0, 0), None, None, ['1 image predicted, 0 failed']),
        (Tally(2, 1, 1), 'out', 0.3, ['2 images predicted, 1 failed; saved to out', '1 box scores above 0.3']),
        (Tally(2), None, 0.3, ['2 images predicted, 0 failed', '0 boxes score above 0.3; --score-threshold 0.05 shows '
                                                               'weaker ones']),
        (Tally(2), None, 0.02, ['2 images predicted, 0 failed', '0 boxes score above 0.02']),
    ],
)  # fmt: skip
def test_the_summary_tells_what_was_done(tally, saved_to, threshold, lines):
    assert summary(tally, saved_to, threshold) == lines


def test_the_number_of_images_is_open_where_a_source_cannot_tell():
    assert count_images([SimpleNamespace(count=2), SimpleNamespace(count=3)]) == 5
    assert count_images([SimpleNamespace(count=2), SimpleNamespace(count=None)]) is None


def test_an_image_that_cannot_be_written_is_an_error_and_the_others_go_on():
    outcomes = [Outcome('a', boxes(1)), Outcome('b', None, 'broken'), Outcome('c', boxes(1))]

    class Writer:
        save_images = False

        def write(self, outcome: Outcome, position: int) -> None:
            if outcome.item == 'a':
                raise UserError('disk full')
            assert (outcome.item, position) == ('c', 3)  # its place among all, those that failed too

    predictor = SimpleNamespace(stream=lambda items, read, keep_pixels: iter(outcomes))
    found = written_outcomes(predictor, [], Writer())
    assert [(outcome.item, outcome.error) for outcome in found] == [('a', 'disk full'), ('b', 'broken'), ('c', None)]


def test_a_result_is_a_line():
    classes = ('cat', 'dog')
    assert result_line(Outcome('a', Classification(np.array([0.25, 0.75]))), classes) == 'a: dog 0.750'
    assert result_line(Outcome('a', boxes(0)), classes) == 'a: nothing'
    many = ', '.join(['cat 0.50'] * 5)
    assert result_line(Outcome('a', boxes(7)), classes) == f'a: {many} and 2 more'
    labels = np.array([[0, 1], [1, 1]], np.uint8)
    assert result_line(Outcome('a', Segmentation(labels)), classes) == 'a: dog 75%, cat 25%'
