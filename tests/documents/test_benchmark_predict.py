"""The tool that compares prediction with mmdet's own."""

import benchmark_predict
import pytest

from emo_mm.data.shapes.generate import generate
from emo_mm.errors import UserError

pytestmark = pytest.mark.toolbox


def test_both_ways_find_the_same_boxes_in_the_same_images(tmp_path):
    photos = sorted((generate(tmp_path / 'shapes', num_train=1, num_val=2).root / 'images' / 'val').glob('*.jpg'))
    theirs, ours = benchmark_predict.compare_with_inferencer('ssdlite_emo_1m_demo', photos, batches=(2,), rounds=1)
    assert (theirs.name, theirs.ratio, theirs.matched) == ('DetInferencer', 1, 1)
    assert (ours.name, ours.batch, ours.boxes) == ('emo_mm, fused', 2, theirs.boxes)
    assert ours.boxes > 0
    assert ours.matched > 0.99


@pytest.mark.parametrize('config', ['emo_1m_demo', 'deeplabv3_emo_1m_demo', 'mask-rcnn_emov2_1m_coco'])
def test_other_models_than_single_stage_detectors_are_refused(config):
    with pytest.raises(UserError, match=config):
        benchmark_predict.compare_with_inferencer(config, [])
