"""``test --format-only`` writes files that the readers of the test servers' toolkits accept."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from emo_mm.config.build import build_model
from emo_mm.data.shapes.generate import generate

pytestmark = pytest.mark.toolbox


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    return generate(tmp_path_factory.mktemp('data') / 'shapes', num_train=2, num_val=3).root


def checkpoint(name, path):
    torch.manual_seed(0)
    torch.save({'state_dict': build_model(name).state_dict(), 'meta': {}}, path)
    return path


def test_detections_load_as_coco_results_without_any_truth(shapes, run_cli, tmp_path):
    from pycocotools.coco import COCO

    info = json.loads((shapes / 'annotations/instances_val.json').read_text())
    truth = info.pop('annotations')
    listing = tmp_path / 'image_info.json'
    listing.write_text(json.dumps(info))
    args = ['--data-root', shapes, '--test-ann', listing, '--test-images', 'images/val', '--workers', '0']
    weights = checkpoint('ssdlite_emo_1m_demo', tmp_path / 'model.pth')
    # Untrained, every score is about one fifth: the threshold of the config lets them all through.
    result = run_cli('test', 'ssdlite_emo_1m_demo', weights, *args, '--format-only', '--work-dir', tmp_path / 'run')
    assert result.code == 0, result.err
    written = tmp_path / 'run/submission/results.bbox.json'
    rows = json.loads(written.read_text())
    assert rows
    assert set(rows[0]) == {'image_id', 'bbox', 'score', 'category_id'}
    assert {row['category_id'] for row in rows} <= {category['id'] for category in info['categories']}
    listing.write_text(json.dumps({**info, 'annotations': truth}))
    loaded = COCO(str(listing)).loadRes(str(written))  # asserts that the images are those of the set
    assert len(loaded.anns) == len(rows)
    assert not (tmp_path / 'run/test_metrics.json').exists()


def test_segmentations_are_one_index_png_for_each_image_of_its_size(shapes, run_cli, tmp_path):
    weights = checkpoint('deeplabv3_emo_1m_demo', tmp_path / 'model.pth')
    result = run_cli(
        'test', 'deeplabv3_emo_1m_demo', weights, '--data-root', shapes, '--workers', '0', '--format-only',
        '--work-dir', tmp_path / 'run',
    )  # fmt: skip
    assert result.code == 0, result.err
    images = sorted((shapes / 'images/val').iterdir())
    masks = sorted((tmp_path / 'run/submission').iterdir())
    assert [mask.name for mask in masks] == [f'{image.stem}.png' for image in images]
    for image, mask in zip(images, masks, strict=True):
        values = np.asarray(Image.open(mask))
        assert values.shape == Image.open(image).size[::-1]
        assert values.max() < 5


def test_classification_has_no_such_server(shapes, run_cli, tmp_path):
    weights = checkpoint('emo_1m_demo', tmp_path / 'model.pth')
    result = run_cli(
        'test', 'emo_1m_demo', weights, '--data-root', shapes / 'folders', '--format-only', '--work-dir', tmp_path
    )
    assert result.code == 1
    assert '--format-only' in result.err
