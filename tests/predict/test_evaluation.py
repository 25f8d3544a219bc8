"""``emo-mm test`` with exported files: the toolbox's figures for what the runtime answers."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from data_trees import annotations, write_coco
from deployed_files import write_onnx, write_program
from descriptions import classifier, detector, instance_segmenter, segmenter
from PIL import Image

from emo_mm.runtime.metadata import InputSpec, Preprocessing

pytestmark = pytest.mark.toolbox
pytest.importorskip('onnxruntime')

AS_IS = Preprocessing('none', (0, 0), 'cv2', 'bilinear', None, 1, None, 0.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
ANY_SIZE = InputSpec('images', 'float32', 'NCHW', None, None, None, normalized_inside=False)


def evaluate(run_cli, tmp_path, *args) -> dict[str, float]:
    done = run_cli('test', *args, '--workers', '0', '--work-dir', tmp_path / 'work')
    assert done.code == 0, done.err
    return json.loads((tmp_path / 'work' / 'test_metrics.json').read_text())['metrics']


def test_average_precision_of_an_exported_detector(run_cli, tmp_path):
    # Images of 32x24 with a cat or a dog; the graph sees boxes at 64x48: 4, 4, 20, 20 for cats.
    content = annotations(images=2)
    content['annotations'][0]['bbox'] = [2, 2, 8, 8]
    data = write_coco(tmp_path / 'data', annotations(), content)
    path = write_onnx(tmp_path / 'det.onnx', detector())
    metrics = evaluate(run_cli, tmp_path, 'ssdlite_emo_1m_demo', path, '--data-root', data.data_root)
    # The first image has its cat found, best of all; the same box in the second image scores as much and is wrong.
    # The dog's box is found nowhere, so the mean over two classes is half that of the cats.
    assert metrics['coco/bbox_mAP_50'] == pytest.approx(0.5, abs=0.26)
    assert metrics['coco/bbox_mAP_50'] > 0.2


def test_average_precision_of_the_masks_of_an_exported_instance_segmenter(run_cli, tmp_path):
    # In images of 32x24 the graph sees a cat in the left 6 columns, a dog in the upper 10 rows and one everywhere.
    # Their true boxes are elsewhere, so that only masks can agree.
    content = annotations(images=2)
    content['annotations'] = [
        {
            'id': 3 * image + index,
            'image_id': image,
            'category_id': 10 if index == 1 else 11,
            'bbox': [26, 18, 4, 4],
            'area': width * height,
            'iscrowd': 0,
            'segmentation': [[0, 0, width, 0, width, height, 0, height]],
        }
        for image in (1, 2)
        for index, (width, height) in enumerate([(6, 24), (32, 10), (32, 24)], start=1)
    ]
    data = write_coco(tmp_path / 'data', content, content)
    path = write_onnx(tmp_path / 'ins.onnx', instance_segmenter())
    metrics = evaluate(run_cli, tmp_path, 'rtmdet-ins_emo_1m_demo', path, '--data-root', data.data_root)
    assert metrics['coco/segm_mAP_50'] == 1
    assert metrics['coco/bbox_mAP_50'] < 0.1


def test_masks_are_put_where_the_metric_looks(tmp_path):
    import torch
    from mmengine.structures import BaseDataElement

    from emo_mm.engine.deployed import DeployedModel

    Image.new('RGB', (128, 96), (124, 116, 104)).save(tmp_path / 'a.png')
    for kind, count in (('instances', 4), ('masks', 2), ('roi_masks', 2)):
        model = DeployedModel(write_onnx(tmp_path / f'{kind}.onnx', instance_segmenter(kind)))
        samples = [BaseDataElement(metainfo={'img_path': str(tmp_path / 'a.png')}) for _ in range(2)]
        for sample in model.test_step({'data_samples': samples}):
            masks = sample.pred_instances.masks
            assert (masks.dtype, tuple(masks.shape)) == (torch.bool, (count, 96, 128))
            assert masks.flatten(1).any(1).sum() >= 2
            assert len(sample.pred_instances[sample.pred_instances.scores > 0.6].masks) < count


def test_intersection_over_union_of_an_exported_segmenter(run_cli, tmp_path):
    rng = np.random.default_rng(0)
    for split in ('train', 'val'):
        for folder in ('images', 'masks'):
            (tmp_path / 'data' / folder / split).mkdir(parents=True)
        for index in range(2):
            # 1 where green is above red, in blocks that PNG keeps
            labels = rng.integers(0, 2, (5, 6), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
            pixels = np.stack([255 - 255 * labels, 255 * labels, 0 * labels], 2)
            Image.fromarray(pixels).save(tmp_path / 'data' / 'images' / split / f'{index}.png')
            Image.fromarray(labels).save(tmp_path / 'data' / 'masks' / split / f'{index}.png')
    (tmp_path / 'data' / 'CLASSES.txt').write_text('cat\ndog\n')
    path = write_onnx(tmp_path / 'seg.onnx', segmenter('labels', preprocessing=AS_IS, input=ANY_SIZE))
    data = ('--data-root', tmp_path / 'data', '--classes', tmp_path / 'data' / 'CLASSES.txt')
    assert evaluate(run_cli, tmp_path, 'deeplabv3_emo_1m_demo', path, *data)['mIoU'] == 100


@pytest.fixture
def folders(tmp_path):
    """Red cats and green dogs, and one green cat among three in the test split."""
    for split in ('train', 'val'):
        for name, greens in (('cat', (0, 0, 255)), ('dog', (255,))):
            for index, green in enumerate(greens):
                path = tmp_path / 'data' / split / name / f'{index}.png'
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new('RGB', (20, 20), (255 - green, green, 0)).save(path)
    return tmp_path / 'data'


def test_top_1_of_an_exported_classifier(run_cli, tmp_path, folders):
    path = write_onnx(tmp_path / 'cls.onnx', classifier(preprocessing=replace(AS_IS), input=ANY_SIZE))
    metrics = evaluate(run_cli, tmp_path, 'emo_1m_demo', path, '--data-root', folders)
    assert metrics['accuracy/top1'] == 75


def test_top_1_of_a_program_of_torch(run_cli, tmp_path, folders):
    spec = replace(ANY_SIZE, height=20, width=20)
    path = write_program(tmp_path / 'cls.pt2', classifier(preprocessing=AS_IS, input=spec))
    metrics = evaluate(run_cli, tmp_path, 'emo_1m_demo', path, '--data-root', folders)
    assert metrics['accuracy/top1'] == 75


def test_a_file_for_another_task_or_other_classes_is_refused(run_cli, tmp_path, folders):
    other = write_onnx(tmp_path / 'seg.onnx', segmenter())
    done = run_cli('test', 'emo_1m_demo', other, '--data-root', folders, '--work-dir', tmp_path / 'work')
    assert (done.code, 'is a model for seg, and the config is for cls' in done.err) == (1, True)
    swapped = write_onnx(tmp_path / 'cls.onnx', classifier(classes=('dog', 'cat')))
    done = run_cli('test', 'emo_1m_demo', swapped, '--data-root', folders, '--work-dir', tmp_path / 'work')
    assert (done.code, 'was trained for the classes dog, cat' in done.err) == (1, True)
