"""What a segmenter gets right and wrong."""

import numpy as np
import pytest

from emo_mm.report.label_maps import MaskRecord, analyse_masks

CLASSES = ('sky', 'road', 'pole')


def record(truth, found, path='a.png'):
    return MaskRecord.of(path, np.array(truth, np.uint8), np.array(found, np.int64))


def rows(analysis):
    return {cells[0]: dict(zip(analysis.per_class.columns, cells, strict=True)) for cells in analysis.per_class.rows}


def test_rates_and_iou_follow_from_the_pixels():
    found = rows(analyse_masks([record([[0, 0, 0, 1]], [[0, 0, 1, 1]])], CLASSES))
    assert found['sky']['IoU'] == pytest.approx(2 / 3)
    assert found['sky']['precision'] == 1
    assert found['sky']['recall'] == pytest.approx(2 / 3)
    assert found['road']['precision'] == 0.5
    assert found['road']['share of the pixels'] == 0.25
    assert np.isnan(found['pole']['IoU'])


def test_ignored_pixels_do_not_count():
    found = rows(analyse_masks([record([[0, 255, 255]], [[0, 1, 2]])], CLASSES))
    assert found['sky']['IoU'] == 1
    assert np.isnan(found['road']['IoU'])


def test_the_worst_image_is_the_one_with_the_lowest_mean_iou():
    good, half, bad = record([[0, 1]], [[0, 1]], 'good'), record([[0, 0]], [[0, 1]], 'half'), record([[0]], [[1]], 'b')
    analysis = analyse_masks([good, half, bad], CLASSES)
    assert [one.index for one in analysis.worst] == [2, 1]
    assert analysis.worst[0].words == 'mean IoU 0.00'


def test_what_is_confused_is_named_with_its_share():
    analysis = analyse_masks([record([[0, 0, 0, 0, 1]], [[0, 0, 0, 2, 0]])], CLASSES)
    assert analysis.tables[0].rows == (('sky', 'pole', 1, 0.25), ('road', 'sky', 1, 1.0))


@pytest.mark.toolbox
def test_figures_are_those_of_the_toolbox():
    import torch
    from mmseg.evaluation import IoUMetric

    random = np.random.default_rng(0)
    metric = IoUMetric(iou_metrics=['mIoU', 'mFscore'])
    metric.dataset_meta = {'classes': CLASSES}
    records = []
    for _ in range(5):
        truth = random.choice([0, 1, 2, 255], (20, 30)).astype(np.uint8)
        found = np.where(random.random(truth.shape) < 0.6, np.where(truth == 255, 0, truth), random.integers(0, 3))
        records.append(record(truth, found))
        sample = {key: {'data': torch.tensor(value)[None]} for key, value in
                  (('pred_sem_seg', found), ('gt_sem_seg', truth))}  # fmt: skip
        metric.process({}, [sample])
    official = metric.evaluate(5)
    found = rows(analyse_masks(records, CLASSES)).values()
    for column, name in (('IoU', 'mIoU'), ('F1', 'mFscore'), ('precision', 'mPrecision'), ('recall', 'mRecall')):
        assert 100 * np.mean([one[column] for one in found]) == pytest.approx(official[name], abs=0.006)
