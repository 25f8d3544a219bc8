"""What a detector finds and misses: hand-made cases, and the toolbox's own figures."""

import json

import numpy as np
import pytest

from emo_mm.report.boxes import BACKGROUND, BoxRecord, analyse_boxes
from emo_mm.report.sheets import Boxes

CLASSES = ('cat', 'dog')
NONE = Boxes(np.zeros((0, 4)), np.zeros(0, int))


def boxes(*rows, scores=None):
    table = np.array(rows, float).reshape(-1, 5)
    return Boxes(table[:, :4], table[:, 4].astype(int), None if scores is None else np.array(scores, float))


def record(truth, found, ignored=NONE, path='a.jpg'):
    return BoxRecord(path, truth, ignored, found)


def row(analysis, name):
    (found,) = [dict(zip(analysis.per_class.columns, cells, strict=True)) for cells in analysis.per_class.rows
                if cells[0] == name]  # fmt: skip
    return found


def counts(analysis):
    return np.array(analysis.data['confusion']['matrix'])


def test_what_is_found_exactly_scores_one():
    truth = boxes((0, 0, 40, 40, 0), (50, 50, 90, 90, 1))
    analysis = analyse_boxes([record(truth, boxes((0, 0, 40, 40, 0), (50, 50, 90, 90, 1), scores=[0.9, 0.8]))], CLASSES)
    for name in CLASSES:
        found = row(analysis, name)
        assert [found[key] for key in ('boxes', 'AP', 'AP50', 'AP75', 'precision', 'recall', 'F1')] == pytest.approx(
            [1] * 7
        )
    assert not analysis.worst
    assert counts(analysis).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_missed_extra_and_confused_boxes_are_counted_apart():
    truth = boxes((0, 0, 40, 40, 0), (50, 50, 90, 90, 0), (100, 0, 140, 40, 1))
    found = boxes((0, 0, 40, 40, 1), (100, 0, 140, 40, 1), (200, 200, 240, 240, 0), scores=[0.9, 0.9, 0.9])
    analysis = analyse_boxes([record(truth, found)], CLASSES, threshold=0.5)
    # rows: cat, dog, nothing there; columns: taken for cat, for dog, missed
    assert counts(analysis).tolist() == [[0, 1, 1], [0, 1, 0], [1, 0, 0]]
    assert analysis.worst[0].words == '1 missed, 1 too many, 1 confused'
    confused = dict(zip(analysis.tables[1].columns, zip(*analysis.tables[1].rows, strict=True), strict=True))
    assert set(zip(confused['truth'], confused['predicted'], strict=True)) == {
        ('cat', 'dog'),
        ('cat', BACKGROUND),
        (BACKGROUND, 'cat'),
    }


def test_the_threshold_is_where_f1_is_best():
    truth = boxes(*((50 * i, 0, 50 * i + 40, 40, 0) for i in range(10)))
    right = [(50 * i, 0, 50 * i + 40, 40, 0) for i in range(10)]
    wrong = [(50 * i, 100, 50 * i + 40, 140, 0) for i in range(10)]
    found = boxes(*right, *wrong, scores=[0.7] * 10 + [0.31] * 10)
    analysis = analyse_boxes([record(truth, found)], CLASSES)
    assert 0.31 < analysis.threshold <= 0.7
    assert counts(analysis)[2, 0] == 0
    curves = analysis.data['curves']
    at = dict(zip(curves['score'], curves['f1'], strict=True))
    assert at[0.0] == pytest.approx(2 / 3)  # 10 right of 20, all 10 found
    assert at[0.5] == 1
    assert at[1.0] == 0


def test_the_threshold_of_a_detector_that_found_nothing_is_no_zero():
    analysis = analyse_boxes([record(boxes((0, 0, 9, 9, 0)), boxes((50, 50, 60, 60, 0), scores=[0.01]))], CLASSES)
    assert analysis.threshold == pytest.approx(0.05)


def test_a_given_threshold_is_kept_and_said_to_come_from_validation():
    truth = boxes((0, 0, 40, 40, 0))
    analysis = analyse_boxes([record(truth, boxes((0, 0, 40, 40, 0), scores=[0.3]))], CLASSES, threshold=0.6)
    assert analysis.threshold == 0.6
    assert counts(analysis)[0].tolist() == [0, 0, 1]  # below the threshold it is missed
    assert 'validation' in analysis.notes[0]


def test_boxes_on_ignored_ones_are_no_mistakes():
    crowd = boxes((0, 0, 200, 200, 0))
    truth, found = boxes((300, 0, 340, 40, 0)), boxes((300, 0, 340, 40, 0), (10, 10, 50, 50, 0), scores=[0.9, 0.9])
    analysis = analyse_boxes([record(truth, found, crowd)], CLASSES)
    assert counts(analysis).sum() == 1
    assert row(analysis, 'cat')['AP'] == pytest.approx(1)
    assert not analysis.worst


def test_a_class_without_boxes_has_no_figures_and_empty_images_no_part_in_them():
    analysis = analyse_boxes([record(NONE, boxes(scores=[]))], CLASSES)
    assert all(np.isnan(row(analysis, name)['AP']) for name in CLASSES)
    assert [table_row[1] for table_row in analysis.tables[0].rows] == [0, 0, 0]


def test_sizes_are_counted_as_coco_counts_them():
    truth = boxes((0, 0, 20, 20, 0), (0, 0, 50, 50, 0), (0, 0, 100, 100, 1), (0, 0, 32, 32, 1))
    analysis = analyse_boxes([record(truth, boxes(scores=[]))], CLASSES)
    assert [(cells[0].split()[0], cells[1]) for cells in analysis.tables[0].rows] == [
        ('small', 1),
        ('medium', 2),
        ('large', 1),
    ]


@pytest.mark.toolbox
def test_ap_is_that_of_the_toolbox(tmp_path):
    from mmdet.evaluation import CocoMetric

    random = np.random.default_rng(0)
    records, content, metric_input = [], {'images': [], 'annotations': [], 'categories': []}, []
    for number in range(12):
        corner, sides = random.uniform(0, 300, (6, 2)), random.uniform(10, 150, (6, 2))
        truth = np.concatenate([corner, corner + sides], axis=1)
        labels = random.integers(0, 2, 6)
        found = np.concatenate([truth + random.normal(0, 6, truth.shape), truth[:2] + 60]).astype(np.float32)
        found_labels = np.where(random.random(8) < 0.8, np.append(labels, labels[:2]), random.integers(0, 2, 8))
        scores = random.random(8)
        crowd = random.random(6) < 0.15
        records.append(
            BoxRecord(
                f'{number}.jpg',
                Boxes(truth[~crowd], labels[~crowd]),
                Boxes(truth[crowd], labels[crowd]),
                Boxes(found, found_labels, scores),
            )
        )
        content['images'].append({'id': number, 'file_name': f'{number}.jpg', 'width': 500, 'height': 500})
        for one, label, is_crowd in zip(truth, labels, crowd, strict=True):
            sides = one[2:] - one[:2]
            content['annotations'].append({
                'id': len(content['annotations']) + 1, 'image_id': number, 'category_id': int(label), 'bbox':
                [*one[:2].tolist(), *sides.tolist()], 'area': float(sides.prod()), 'iscrowd': int(is_crowd),
            })  # fmt: skip
        metric_input.append((number, found, scores, found_labels))
    content['categories'] = [{'id': label, 'name': name} for label, name in enumerate(CLASSES)]
    (tmp_path / 'truth.json').write_text(json.dumps(content))
    metric = CocoMetric(ann_file=str(tmp_path / 'truth.json'), classwise=False)
    metric.dataset_meta = {'classes': CLASSES}
    import torch

    for number, found, scores, labels in metric_input:
        prediction = {'bboxes': torch.tensor(found), 'scores': torch.tensor(scores), 'labels': torch.tensor(labels)}
        sample = {'img_id': number, 'ori_shape': (500, 500), 'pred_instances': prediction}
        metric.process({}, [sample])
    official = metric.evaluate(12)
    analysis = analyse_boxes(records, CLASSES)
    for column, name in (('AP', 'bbox_mAP'), ('AP50', 'bbox_mAP_50'), ('AP75', 'bbox_mAP_75')):
        mean = np.mean([row(analysis, one)[column] for one in CLASSES])
        assert mean == pytest.approx(official[f'coco/{name}'], abs=6e-4)  # the toolbox rounds to 3 decimals
    for cells, name in zip(analysis.tables[0].rows, 'sml', strict=True):
        assert cells[2] == pytest.approx(official[f'coco/bbox_mAP_{name}'], abs=6e-4)


# --- objects with outlines --------------------------------------------------------------------------------------------


def objects(*rows, scores=None):
    """Objects that fill a rectangle of a picture of 100x100 pixels; all boxes are the whole picture."""
    from pycocotools import mask

    outlines = []
    for left, top, right, bottom, _ in rows:
        pixels = np.zeros((100, 100), np.uint8, order='F')
        pixels[top:bottom, left:right] = 1
        outlines.append(mask.encode(pixels))
    whole = boxes(*[(0, 0, 100, 100, label) for *_, label in rows], scores=scores)
    return Boxes(whole.xyxy, whole.labels, whole.scores, tuple(outlines))


NO_OBJECTS = Boxes(np.zeros((0, 4)), np.zeros(0, int), None, ())


def test_objects_are_compared_by_their_pixels_not_by_their_boxes():
    truth = objects((0, 0, 40, 40, 0), (50, 50, 90, 90, 1))
    found = objects((0, 0, 40, 40, 0), (0, 50, 40, 90, 1), scores=[0.9, 0.9])
    analysis = analyse_boxes([record(truth, found, NO_OBJECTS)], CLASSES, threshold=0.5)
    assert (row(analysis, 'cat')['AP'], row(analysis, 'dog')['AP']) == pytest.approx((1, 0))
    assert counts(analysis).tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0]]
    assert row(analysis, 'cat')['objects'] == 1
    assert [cells[1] for cells in analysis.tables[0].rows] == [0, 2, 0]  # 40x40 pixels each, in boxes of 100x100


def test_objects_inside_a_crowd_are_no_mistakes():
    crowd = objects((0, 0, 100, 50, 0))
    found = objects((10, 10, 30, 30, 0), (10, 60, 30, 80, 0), scores=[0.9, 0.9])
    analysis = analyse_boxes([record(objects((50, 60, 90, 90, 0)), found, crowd)], CLASSES, threshold=0.5)
    assert counts(analysis).tolist() == [[0, 0, 1], [0, 0, 0], [1, 0, 0]]


@pytest.mark.toolbox
def test_true_objects_come_from_polygons_and_rle_of_the_list():
    from pycocotools import mask

    from emo_mm.engine.reports.instances import INSTANCES

    class Data:
        def __len__(self):
            return 1

        def get_data_info(self, index):
            pixels = np.zeros((20, 30), np.uint8, order='F')
            pixels[2:6, 3:9] = 1
            runs = {'size': [20, 30], 'counts': [62, 4, 16, 4, 514]}
            compressed = {'size': [20, 30], 'counts': mask.encode(pixels)['counts'].decode()}
            outlines = [[[0, 0, 10, 0, 10, 5, 0, 5]], compressed, runs]
            instances = [
                {'bbox': [0, 0, 9, 9], 'bbox_label': 0, 'ignore_flag': int(one is runs), 'mask': one}
                for one in outlines
            ]
            return {'img_path': 'a.jpg', 'height': 20, 'width': 30, 'instances': instances}

    (found,) = INSTANCES.complete([record(NONE, NONE)], Data())
    assert [int(mask.area(one)) for one in found.truth.outlines] == [50, 24]
    assert [int(mask.area(one)) for one in found.ignored.outlines] == [8]
