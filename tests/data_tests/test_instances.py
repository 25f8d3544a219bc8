"""Own data for instance segmentation: the outlines that files hold are trained on, all others are told or refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from box_trees import table, voc, write
from box_trees import yolo as boxes_of_yolo
from data_trees import build, shared
from outline_trees import (
    HEIGHT,
    NAMES,
    TOYS,
    TREES,
    WIDTH,
    coco,
    coco_content,
    corners,
    cvat,
    cvat_image,
    cvat_polygon,
    files_of,
    images,
    label_studio,
    labelme,
    labelme_file,
    labelme_polygon,
    labelme_rectangle,
    pixels,
    rle,
    shape,
    yolo,
)
from planning import load_run_config

from emo_mm import doctor
from emo_mm.data import outlines
from emo_mm.data.layouts import LAYOUTS, layout_of_folder
from emo_mm.data.layouts.boxes.base import BoxLayout
from emo_mm.data.splits import DataRequest
from emo_mm.engine.options import RunOptions, TrainOptions
from emo_mm.errors import UserError
from emo_mm.tasks import TASKS

pytestmark = pytest.mark.toolbox
CONFIG = 'rtmdet-ins_emo_1m_demo'
INS = TASKS['ins']


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('EMO_MM_CACHE', str(tmp_path / 'cache'))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / 'data'


def options(root: Path, config: str = CONFIG, **more: Any) -> TrainOptions:
    data = DataRequest(data_root=str(root), **{key: more.pop(key) for key in list(more) if hasattr(DataRequest, key)})
    return TrainOptions(config, work_dir=str(root.parent / 'run'), data=data, weights='none', **more)


def planned(root: Path, **more: Any) -> tuple[Any, str]:
    cfg, lines = load_run_config(options(root, **more), training=True)
    return cfg, '\n'.join(lines)


def refusal(root: Path, **more: Any) -> str:
    with pytest.raises(UserError) as raised:
        planned(root, **more)
    return str(raised.value)


def masks_of(cfg: Any, split: str = 'train') -> dict[str, list[tuple[str, np.ndarray]]]:
    """What mmdet gives to a network: the class and the pixels of each object, by image."""
    dataset = cfg[f'{split}_dataloader'].dataset
    dataset.pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    ]
    built = build(cfg, split)
    found = {}
    for index in range(len(built)):
        row = built[index]
        assert not row['gt_ignore_flags'].any()
        rows = zip(row['gt_bboxes_labels'], row['gt_masks'].to_ndarray(), strict=True)
        found[Path(row['img_path']).stem] = [(built.metainfo['classes'][label], mask) for label, mask in rows]
    return found


def matches(found: list[tuple[str, np.ndarray]], rectangles: list[Any]) -> bool:
    names = [NAMES[label] for label, *_ in rectangles]
    return [name for name, _ in found] == names and all(
        np.array_equal(mask, pixels(*sides)) for (_, mask), (_, *sides) in zip(found, rectangles, strict=True)
    )


def harmed(root: Path, *changes: dict[str, Any]) -> None:
    """A COCO tree whose first training annotations are changed; a value of ... takes the key away."""

    def harm(content: dict[str, Any]) -> None:
        for entry, change in zip(content['annotations'], changes, strict=False):
            entry.update(change)
            for key in [key for key, value in change.items() if value is ...]:
                del entry[key]

    coco(root, harm=harm)


# --- outlines of every format
@pytest.mark.parametrize('name', TREES)
def test_the_outlines_of_every_format_are_the_masks_that_are_trained_on(root: Path, name: str) -> None:
    TREES[name][1](root)
    before = files_of(root)
    key = TREES[name][0].replace('_outlines', '_instances')
    request = DataRequest(data_root=str(root))
    assert layout_of_folder(request, INS) is next(row.layout for row in LAYOUTS if row.key == key)
    named = DataRequest(data_root=str(root), layout=key.partition('_')[0])  # as detection calls it
    assert layout_of_folder(named, INS) is layout_of_folder(request, INS)
    cfg, lines = planned(root, keep_empty=True)
    for split, of in TOYS.items():
        found = masks_of(cfg, split)
        assert found.keys() == of.keys()
        assert all(matches(found[image], rectangles) for image, rectangles in of.items())
    assert '3 of 3 images found, 3 objects, 2 classes: cat, dog' in lines
    assert 'no fault' in lines
    assert cfg.model.bbox_head.num_classes == 2
    checks = doctor.check_data(root, layout=key)
    assert [check.ok for check in checks] == [True, True], checks
    assert files_of(root) == before


@pytest.mark.parametrize('name', ['coco runs', 'coco flat polygons', 'yolo', 'labelme masks', 'cvat masks'])
def test_the_evaluation_reads_the_masks_of_the_same_list(root: Path, name: str) -> None:
    from pycocotools.coco import COCO

    TREES[name][1](root)
    cfg, _ = planned(root)
    dataset = cfg.val_dataloader.dataset
    listed = Path(dataset.data_root or '') / dataset.ann_file
    assert Path(cfg.val_evaluator.ann_file) == listed
    truth = COCO(str(listed))
    for image in truth.dataset['images']:
        rows = TOYS['val'][Path(image['file_name']).stem]
        found = [truth.annToMask(entry) for entry in truth.imgToAnns[image['id']]]
        assert all(np.array_equal(mask, pixels(*sides)) for mask, (_, *sides) in zip(found, rows, strict=True))


def test_perfect_predictions_score_one_on_the_list_without_what_is_left_out(root: Path) -> None:
    from mmdet.evaluation import CocoMetric
    from pycocotools import mask as rle_of

    coco(root, rle)
    content = coco_content('val', rle)
    content['annotations'][2].update(segmentation=None)
    write(root / 'annotations' / 'val.json', json.dumps(content))
    cfg, lines = planned(root)
    assert 'val: annotations/val.json: 2 of 2 images found, 2 objects' in lines
    metric = CocoMetric(ann_file=cfg.val_evaluator.ann_file, metric=['bbox', 'segm'])
    metric.dataset_meta = {'classes': NAMES}
    for image_id, rows in enumerate(TOYS['val'].values(), 1):
        kept = [row for row in rows if row != (1, 18, 8, 32, 24)]
        found = {
            'img_id': image_id,
            'bboxes': np.array([sides for _, *sides in kept], float),
            'labels': np.array([label for label, *_ in kept]),
            'scores': np.ones(len(kept)),
            'mask_scores': np.ones(len(kept)),
            'masks': [rle_of.encode(np.asfortranarray(pixels(*sides))) for _, *sides in kept],
        }
        metric.results.append(({'img_id': image_id, 'width': WIDTH, 'height': HEIGHT}, found))
    scores = metric.compute_metrics(metric.results)
    assert (scores['segm_mAP'], scores['bbox_mAP']) == (1, 1)


def test_a_dry_run_counts_and_writes_nothing(root: Path) -> None:
    yolo(root)
    _, lines = planned(root, dry_run=True)
    assert '3 of 3 images found, 3 objects' in lines
    assert not (root.parent / 'run').exists()


def test_a_test_alone_reads_the_list_that_was_repaired(root: Path) -> None:
    coco(root, corners)
    run = options(root)
    cfg, _ = load_run_config(RunOptions(CONFIG, work_dir=run.work_dir, data=run.data), training=False)
    assert cfg.test_dataloader.dataset.ann_file == cfg.test_evaluator.ann_file
    assert matches(masks_of(cfg, 'test')['d'], TOYS['val']['d'])


def test_data_without_splits_are_divided_with_their_masks(root: Path) -> None:
    label_studio(root)
    content = json.loads((root / 'result.json').read_text())
    content['annotations'][0]['segmentation'] = []
    write(root / 'result.json', json.dumps(content))
    cfg, lines = planned(root, split='0.75/0.25', no_groups=True)
    assert '8 images divided into train 6, val 2' in lines
    numbers = [len(found) for split in ('train', 'val') for found in masks_of(cfg, split).values()]
    assert sum(numbers) == 15
    assert '1 of ' in lines
    assert 'objects left out, as they have no outline' in lines


# --- objects without an outline
@pytest.mark.parametrize(
    'segmentation',
    [
        ...,
        None,
        [],
        [[]],
        {},
        '',
        [[1, 2, 3, 4]],
        [[1, 2, 3, 4, 5]],
        [[4, 4, 12, 4, 8, 4]],
        [[0, 0, 0.3, 0.3, 0.6, 0.6]],
        {'size': [HEIGHT, WIDTH], 'counts': [WIDTH * HEIGHT]},
    ],
)
def test_an_object_without_an_outline_is_left_out_and_told(root: Path, segmentation: Any) -> None:
    harmed(root, {'segmentation': segmentation})
    cfg, lines = planned(root)
    assert 'train: annotations/train.json: 3 of 3 images found, 2 objects' in lines
    told = '  note: 1 of 3 objects left out, as they have no outline; they count as background: annotation 1'
    assert lines.count(told) == 1
    found = masks_of(cfg)
    assert matches(found['a'], TOYS['train']['a'][1:])
    assert matches(found['b'], TOYS['train']['b'])
    detector, lines = planned(root, config='ssdlite_emo_1m_demo')
    assert '3 of 3 images found, 3 boxes' in lines
    assert detector.train_dataloader.dataset.ann_file == 'annotations/train.json'


def test_an_image_whose_objects_have_no_outline_is_left_out_of_the_training_and_told(root: Path) -> None:
    harmed(root, {}, {}, {'segmentation': []})
    cfg, lines = planned(root)
    assert 'train: 2 of 3 images left out: no object of the classes; --keep-empty keeps them' in lines
    assert masks_of(cfg).keys() == {'a'}


def test_parts_of_fewer_than_three_points_go_and_the_rest_of_the_outline_stays(root: Path) -> None:
    whole = corners(*TOYS['train']['a'][0][1:])
    harmed(root, {'segmentation': [[1, 2, 3, 4], whole]})
    cfg, lines = planned(root)
    assert '1 object with parts of fewer than three points, read without these' in lines
    assert matches(masks_of(cfg)['a'], TOYS['train']['a'])


@pytest.mark.parametrize('outline', [rle, lambda *sides: [corners(*sides)], corners])
def test_a_missing_box_is_made_from_the_outline(root: Path, outline: Callable[..., Any]) -> None:
    coco(root, outline, lambda content: [entry.pop('bbox') for entry in content['annotations']])
    cfg, lines = planned(root)
    assert '3 annotations without a bbox, taken as the one around' in lines
    listed = json.loads(Path(cfg.train_dataloader.dataset.ann_file).read_text())
    expected = [[x, y, r - x, b - y] for rows in TOYS['train'].values() for _, x, y, r, b in rows]
    assert [entry['bbox'] for entry in listed['annotations']] == expected


def test_boxes_of_the_file_stay_where_they_are_not_those_around_the_outline(root: Path) -> None:
    harmed(root, {'bbox': [3, 3, 11, 18], 'segmentation': [[4, 4, 12, 4, 12, 20]]})
    cfg, _ = planned(root)
    assert build(cfg, 'train').get_data_info(0)['instances'][0]['bbox'] == [3, 3, 14, 21]


def test_a_crowd_with_a_mask_is_no_object_and_one_without_is_left_out(root: Path) -> None:
    harmed(root, {'iscrowd': 1, 'segmentation': rle(4, 4, 12, 20)}, {'iscrowd': 1, 'segmentation': []})
    cfg, lines = planned(root)
    assert '3 of 3 images found, 1 object, ' in lines
    assert '1 object marked iscrowd: not trained on' in lines
    assert '1 of 3 objects left out, as they have no outline' in lines
    flags = [one['ignore_flag'] for one in build(cfg, 'train').get_data_info(0)['instances']]
    assert flags == [1]


FAULTS = {
    'an RLE of height and width': {'size': [HEIGHT, WIDTH + 1], 'counts': [0, HEIGHT * (WIDTH + 1)]},
    'runs do not make up': {'size': [HEIGHT, WIDTH], 'counts': [0, 5]},
    'an outline at [200, 4, 8, 16], outside 32x24': [corners(200, 4, 208, 20)],
    'too long to draw': [[0, 0, 3e8, 0, 3e8, 3e8]],
}


@pytest.mark.parametrize('detail', FAULTS)
def test_an_outline_that_does_not_fit_its_image_is_a_fault_that_can_be_left_out(root: Path, detail: str) -> None:
    harmed(root, {'segmentation': FAULTS[detail]})
    told = refusal(root)
    assert 'mask that does not fit' in told
    assert detail in told
    cfg, lines = planned(root, bad_data='skip')
    assert '1 box left out' in lines
    assert matches(masks_of(cfg)['a'], TOYS['train']['a'][1:])


# --- boxes only
def boxes_of_coco(root: Path) -> None:
    coco(root, lambda *_: [])


def boxes_of_cvat(root: Path) -> None:
    cvat(root, lambda label, x, y, r, b: f'<box label="{label}" xtl="{x}" ytl="{y}" xbr="{r}" ybr="{b}"/>')


@pytest.mark.parametrize('tree', [boxes_of_coco, boxes_of_yolo, boxes_of_cvat])
def test_data_with_boxes_only_are_refused_and_a_detector_is_named(root: Path, tree: Callable[[Path], None]) -> None:
    tree(root)
    told = refusal(root)
    assert '\n' not in told
    assert 'its annotations have boxes only: none of 3 objects has an outline' in told
    assert 'a detector such as ssdlite_emo_1m_demo trains on boxes' in told
    assert told == refusal(root, bad_data='skip')
    key = layout_of_folder(DataRequest(data_root=str(root)), INS)
    row = next(row for row in LAYOUTS if row.layout is key)
    assert all('boxes only' in check.detail and not check.ok for check in doctor.check_data(root, layout=row.key))
    planned(root, config='ssdlite_emo_1m_demo')


def test_a_split_with_boxes_only_is_refused_even_where_it_is_only_tested_on(root: Path) -> None:
    coco(root)
    content = coco_content('val', lambda *_: [])
    write(root / 'annotations' / 'test.json', json.dumps(content))
    assert 'test.json: its annotations have boxes only' in refusal(root)
    del content['annotations']
    write(root / 'annotations' / 'test.json', json.dumps(content))
    _, lines = planned(root)
    assert 'has no annotations; results can be written but not scored' in lines


@pytest.mark.parametrize(('tree', 'name'), [(voc, 'Pascal VOC annotations'), (table, 'CSV files of boxes')])
def test_formats_of_boxes_are_told_to_be_for_detection(root: Path, tree: Callable[[Path], None], name: str) -> None:
    tree(root)
    assert refusal(root).endswith(f'It holds {name}, which are for detection')


# --- single formats
def test_a_box_among_the_polygons_of_yolo_is_left_out_and_named_by_its_line(root: Path) -> None:
    yolo(root)
    lines = (root / 'labels' / 'train' / 'a.txt').read_text()
    write(root / 'labels' / 'train' / 'a.txt', lines + '1 0.5 0.5 0.2 0.2\n')
    cfg, told = planned(root)
    assert '1 of 4 objects left out, as they have no outline; they count as background: labels/train/a.txt:3' in told
    assert matches(masks_of(cfg)['a'], TOYS['train']['a'])
    write(root / 'labels' / 'train' / 'a.txt', lines + '1 0.5 0.5 0.2 0.2 0.3\n')
    assert 'label that cannot be read' in refusal(root)


def test_circles_and_rectangles_of_labelme_are_objects_and_points_are_told(root: Path) -> None:
    labelme(root)
    circle = shape('dog', 'circle', (16, 12), (16, 22))
    labelme_file(root / 'train', 'b', [labelme_rectangle('cat', 0, 0, 4, 4), circle, shape('dog', 'point', (1, 1))])
    cfg, lines = planned(root)
    (_, square), (_, disc) = masks_of(cfg)['b']
    assert np.array_equal(square, pixels(0, 0, 4, 4))
    assert abs(int(disc.sum()) - 314) < 6
    assert '1 shape left out: point is neither a box nor an area' in lines
    assert '  note: 1 rectangle taken as outline\n' in lines
    labelme_file(root / 'train', 'b', [shape('dog', 'polygon', (1, 1), (2, 2))])
    assert 'a polygon of 2 points' in refusal(root)


def test_polygons_of_labelme_with_one_class_and_group_id_are_one_object(root: Path) -> None:
    labelme(root)
    left, right = labelme_polygon('cat', 0, 0, 4, 4), labelme_polygon('cat', 12, 8, 20, 16)
    dog, alone = labelme_polygon('dog', 4, 0, 8, 4), labelme_polygon('cat', 20, 0, 24, 4)
    ungrouped = [alone | {'group_id': None}, alone]
    labelme_file(root / 'train', 'b', [*({**one, 'group_id': 1} for one in (left, dog, right)), *ungrouped])
    cfg, _ = planned(root)
    (_, whole), (_, other), *rest = masks_of(cfg)['b']
    assert np.array_equal(whole, pixels(0, 0, 4, 4) | pixels(12, 8, 20, 16))
    assert np.array_equal(other, pixels(4, 0, 8, 4))
    assert len(rest) == len(ungrouped)


def test_a_user_of_labelme_with_rectangles_only_is_told_of_detectors(root: Path) -> None:
    labelme(root, labelme_rectangle)
    _, lines = planned(root)
    assert '3 rectangles taken as outlines; there are no others, and a detector such as ssdlite_emo_1m_demo' in lines


def test_boxes_of_cvat_beside_polygons_are_left_out_and_named(root: Path) -> None:
    images(root, 'images/{}')
    box = '<box label="dog" xtl="1" ytl="1" xbr="5" ybr="5"/>'
    shapes = {split: dict.fromkeys(of, '') for split, of in TOYS.items()}
    shapes['train']['a'] = cvat_polygon('cat', 4, 4, 12, 20) + box
    shapes['val']['c'] = cvat_polygon('dog', 2, 2, 10, 10)
    entries = ''.join(cvat_image(n, text, split.title()) for split, of in shapes.items() for n, text in of.items())
    write(root / 'annotations.xml', f'<annotations>{entries}</annotations>')
    cfg, lines = planned(root)
    assert '1 of 2 objects left out, as they have no outline; they count as background: annotations.xml: a.jpg' in lines
    assert matches(masks_of(cfg)['a'], [(0, 4, 4, 12, 20)])


@pytest.mark.parametrize('layout', [row.layout for row in LAYOUTS if row.tasks == ('ins',)])
def test_layouts_of_instances_are_those_of_boxes_under_another_name(layout: Any) -> None:
    boxes = next(row.layout for row in LAYOUTS if row.tasks == ('det',) and isinstance(layout, type(row.layout)))
    assert layout.name != boxes.name
    assert layout.looks_like == boxes.looks_like
    assert (layout.coco if isinstance(layout, BoxLayout) else layout).masks


def test_areas_are_those_of_the_outlines_by_which_the_evaluation_tells_sizes(root: Path) -> None:
    yolo(root)
    write(root / 'labels' / 'train' / 'b.txt', '0 0.25 0.25 0.5 0.25 0.25 0.5\n')
    cfg, _ = planned(root)
    listed = json.loads(Path(cfg.train_dataloader.dataset.ann_file).read_text())
    (triangle,) = [entry for entry in listed['annotations'] if 'b.txt' in entry['source']]
    assert triangle['area'] == 24
    assert triangle['bbox'] == [8, 6, 8, 6]


# --- what is shown
def test_the_sheets_show_the_pixels_of_runs_and_count_objects(root: Path, run_cli: Any) -> None:
    from PIL import Image

    coco(root, rle)
    content = coco_content('train', rle)
    content['annotations'][0]['segmentation'] = []
    write(root / 'annotations' / 'train.json', json.dumps(content))
    out = root.parent / 'report'
    shown = run_cli('data', 'show', str(root), '--task', 'ins', '--out', str(out)).out
    assert '3 of 3 images found, 2 objects' in shown
    assert '1 of 3 objects left out, as they have no outline' in shown
    assert 'without an object' in shown
    filled = np.asarray(Image.open(out / 'truth_train.png').convert('RGB')).astype(int)
    shown = run_cli('data', 'show', str(root), '--out', str(out)).out
    assert '3 of 3 images found, 3 boxes' in shown
    frames = np.asarray(Image.open(out / 'truth_train.png').convert('RGB')).astype(int)
    assert filled.shape == frames.shape
    assert (abs(filled - frames).sum(-1) > 30).mean() > 0.05


# --- real data
def test_coco_itself_has_as_many_objects_as_its_file_and_its_crowds_are_told() -> None:
    request = shared('coco_tiny')
    run = TrainOptions('rtmdet-ins_emo_1m_coco', data=request, weights='none', dry_run=True)
    cfg, lines = load_run_config(run, training=True)
    for split in ('train', 'val'):
        path = Path(str(request.data_root)) / 'annotations' / f'instances_{split}2017.json'
        content = json.loads(path.read_text())
        crowds = sum(entry['iscrowd'] for entry in content['annotations'])
        objects = len(content['annotations']) - crowds
        line = next(line for line in lines if line.startswith(f'{split}: annotations/'))
        assert f'50 of 50 images found, {objects} objects' in line
        note = lines[lines.index(line) + 1]
        assert note == f'  note: {crowds} objects marked iscrowd: not trained on, ignored in the evaluation'
        infos = build(cfg, 'val') if split == 'val' else None
        if infos is not None:
            found = [one for index in range(len(infos)) for one in infos.get_data_info(index)['instances']]
            assert sum(not one['ignore_flag'] and bool(one['mask']) for one in found) == objects


# --- geometry
def test_what_encloses_nothing_is_told_from_thin_and_crossed_outlines() -> None:
    assert outlines.encloses_nothing([0, 0, 10, 10, 20, 20, 5, 5])
    assert outlines.encloses_nothing([3, 3] * 4)
    assert not outlines.encloses_nothing([0, 0, 100, 0, 100, 0.5])
    assert not outlines.encloses_nothing([0, 0, 10, 10, 10, 0, 0, 10])  # crossed: its area is 0 by the formula


def test_a_polygon_is_made_of_finite_numbers() -> None:
    assert outlines.is_polygon([0, 0.5, 1, 1, 2, -1e300])
    for odd in (math.nan, math.inf, -math.inf, '1', None, True, 10**400):
        assert not outlines.is_polygon([0, 0.5, 1, 1, 2, odd])
    assert not outlines.is_polygon([10**400, -(10**400), 1, 1, 2, 3])
    assert not outlines.is_polygon([math.inf, -math.inf, 1.0, 1, 2, 3])


def test_the_box_and_the_rectangles_of_runs_are_those_of_their_pixels() -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        inside = generator.random((HEIGHT, WIDTH)) < generator.choice([0.001, 0.01, 0.5, 1])
        runs = outlines.rle_of(inside, 0, 0, WIDTH, HEIGHT)
        drawn = np.zeros_like(inside)
        for left, top, _, _, right, bottom, *_ in outlines.rectangles_of(runs):
            drawn[top:bottom, left:right] = True
        assert np.array_equal(drawn, inside)
        assert outlines.area_within(runs) == inside.sum()
        rows, columns = np.nonzero(inside)
        if rows.size:
            box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
            assert outlines.bounds_of(runs) == box
        else:
            assert outlines.bounds_of(runs) is None
