"""What a classifier gets right and wrong."""

import pytest

from emo_mm.report.labels import LabelRecord, analyse_labels

CLASSES = ('glass', 'metal', 'paper')


def records(*rows):
    return [LabelRecord(f'{i}.jpg', *row) for i, row in enumerate(rows)]


def test_precision_recall_and_confusions_follow_from_the_labels():
    analysis = analyse_labels(records((0, 0, 0.9, 0), (0, 1, 0.8, 1), (1, 1, 0.7, 0), (0, 0, 0.6, 0)), CLASSES)
    glass, metal, paper = analysis.per_class.rows
    assert glass[:4] == ('glass', 3, 1.0, pytest.approx(2 / 3))
    assert metal[:4] == ('metal', 1, 0.5, 1.0)
    assert paper[1] == 0
    assert paper[5] is None
    assert analysis.tables[0].rows == (('glass', 'metal', 1, pytest.approx(1 / 3)),)


def test_the_worst_are_the_surest_mistakes():
    analysis = analyse_labels(records((0, 1, 0.6, 1), (0, 1, 0.99, 2), (0, 0, 1.0, 0)), CLASSES)
    assert [(one.index, one.words) for one in analysis.worst] == [(1, 'confidence 0.99'), (0, 'confidence 0.60')]


def test_curves_say_what_withholding_answers_would_bring():
    curves = analyse_labels(records((0, 0, 0.9, 0), (0, 1, 0.4, 1)), CLASSES).data['curves']
    at = {
        score: (p, r) for score, p, r in zip(curves['confidence'], curves['precision'], curves['recall'], strict=True)
    }
    assert at[0.0] == (0.5, 0.5)
    assert at[0.5] == (1.0, 0.5)
    assert at[1.0] == (None, 0.0)
