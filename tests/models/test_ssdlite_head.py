"""The boxes that SSDLite finds by the batch are mmdet's, which finds them image by image and level by level."""

import pytest
import torch
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead

from emo_mm.config.build import build_model

pytestmark = pytest.mark.toolbox

SIZES = (20, 10, 5, 3, 2, 1)
PRIORS, CLASSES = 6, 80


@pytest.fixture(scope='module')
def head():
    return build_model('ssdlite_emo_1m_coco').bbox_head


def outputs(images, background, seed=0):
    """Scores and deltas of each level; the higher the background, the fewer candidates pass the threshold."""
    rng = torch.Generator().manual_seed(seed)
    scores, deltas = [], []
    for size in SIZES:
        score = torch.randn(images, PRIORS, CLASSES + 1, size, size, generator=rng) * 1.5
        score[:, :, -1] += background
        # N,A,C,H,W -> N,A*C,H,W
        scores.append(score.reshape(images, PRIORS * (CLASSES + 1), size, size))
        deltas.append(torch.randn(images, PRIORS * 4, size, size, generator=rng))
    return scores, deltas


def metas(images):
    return [
        {'img_shape': (320, 320), 'ori_shape': (480, 640), 'scale_factor': (0.5, 2 / 3 + i / 50)} for i in range(images)
    ]


def assert_equal_boxes(found, expected):
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert sorted(ours.keys()) == sorted(theirs.keys())
        for key in ('bboxes', 'scores', 'labels'):
            assert torch.equal(ours[key], theirs[key])


@pytest.mark.parametrize(
    ('images', 'background', 'counts'),
    [(3, 10.0, range(50, 201)), (1, 10.0, range(50, 201)), (2, 6.0, range(200, 201)), (2, 30.0, range(1))],
)
@pytest.mark.parametrize('rescale', [True, False])
def test_boxes_are_those_of_mmdet_to_the_last_bit(head, images, background, counts, rescale):
    scores, deltas = outputs(images, background)
    arguments = dict(batch_img_metas=metas(images), rescale=rescale)
    found = head.predict_by_feat(scores, deltas, **arguments)
    assert_equal_boxes(found, BaseDenseHead.predict_by_feat(head, scores, deltas, **arguments))
    assert all(len(boxes) in counts for boxes in found)


def test_the_best_of_each_level_are_kept(head):
    scores, deltas = outputs(2, 8.0)
    settings = head.test_cfg.copy()
    settings.update(nms_pre=20)  # far below the candidates of the first levels
    arguments = dict(batch_img_metas=metas(2), cfg=settings)
    found = head.predict_by_feat(scores, deltas, **arguments, with_nms=False)
    assert_equal_boxes(found, BaseDenseHead.predict_by_feat(head, scores, deltas, **arguments, with_nms=False))
    assert all(len(boxes) <= 20 * len(SIZES) for boxes in found)


def test_an_image_without_candidates_does_not_disturb_the_others(head):
    scores, deltas = outputs(3, 10.0)
    for level in scores:
        level[1].view(PRIORS, CLASSES + 1, *level.shape[-2:])[:, -1] += 40
    found = head.predict_by_feat(scores, deltas, batch_img_metas=metas(3))
    assert_equal_boxes(found, BaseDenseHead.predict_by_feat(head, scores, deltas, batch_img_metas=metas(3)))
    assert len(found[1]) == 0
    assert min(len(found[0]), len(found[2])) > 0


def test_images_of_different_shapes_are_left_to_mmdet(head):
    scores, deltas = outputs(2, 10.0)
    shapes = metas(2)
    shapes[1]['img_shape'] = (300, 320)
    found = head.predict_by_feat(scores, deltas, batch_img_metas=shapes)
    assert_equal_boxes(found, BaseDenseHead.predict_by_feat(head, scores, deltas, batch_img_metas=shapes))
    assert found[1].bboxes[:, 1::2].max() <= 300
