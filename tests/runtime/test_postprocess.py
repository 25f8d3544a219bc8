"""Boxes and label maps in NumPy equal those of mmcv and PyTorch."""

from __future__ import annotations

import numpy as np
import pytest

from emo_mm.runtime.metadata import NMS
from emo_mm.runtime.postprocess import interpolation_matrix, label_map, nms, select_boxes
from emo_mm.runtime.preprocess import Prepared


def random_boxes(count: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centre, size = rng.uniform(0, 300, (count, 2)), rng.uniform(5, 80, (count, 2))
    boxes = np.hstack([centre - size / 2, centre + size / 2]).astype(np.float32)
    return boxes, rng.permutation(count).astype(np.float32) / count, rng.integers(0, classes, count)


@pytest.mark.toolbox
@pytest.mark.parametrize('class_agnostic', [False, True])
@pytest.mark.parametrize('threshold', [0.3, 0.45, 0.6])
def test_nms_keeps_the_boxes_that_mmcv_keeps(threshold, class_agnostic):
    import torch
    from mmcv.ops import batched_nms

    for seed in range(3):
        boxes, scores, labels = random_boxes(800, 7, seed)
        config = dict(type='nms', iou_threshold=threshold)
        tensors = [torch.from_numpy(x) for x in (boxes, scores, labels)]
        _, expected = batched_nms(*tensors, config, class_agnostic=class_agnostic)
        kept = nms(boxes, scores, None if class_agnostic else labels, threshold, limit=800)
        np.testing.assert_array_equal(kept, expected.numpy())
        limited = nms(boxes, scores, None if class_agnostic else labels, threshold, limit=10)
        np.testing.assert_array_equal(limited, kept[:10])


def test_nms_of_nothing_keeps_nothing():
    empty = np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, int)
    assert nms(*empty, 0.5, 10).size == 0


def test_boxes_without_area_suppress_nothing():
    boxes = np.array([[5, 5, 5, 5], [5, 5, 5, 5]], np.float32)
    assert list(nms(boxes, np.float32([0.9, 0.8]), np.zeros(2, int), 0.5, 10)) == [0, 1]


@pytest.mark.toolbox
@pytest.mark.parametrize('nms_pre', [-1, 20, 1000])
def test_detections_equal_those_of_an_mmdet_head(nms_pre):
    import torch
    from mmengine.config import ConfigDict

    from emo_mm.config.build import build_model
    from emo_mm.predict.network import DetectorNetwork

    torch.manual_seed(0)
    model = build_model('ssdlite_emo_1m_demo')
    head = model.bbox_head
    cfg = ConfigDict(
        nms_pre=nms_pre, score_thr=0.25, min_bbox_size=0, max_per_img=60, nms=dict(type='nms', iou_threshold=0.45)
    )
    feats = [(torch.randn(1, c, s, s)) for c, s in zip(head.in_channels, (16, 8, 4, 2, 1, 1), strict=True)]
    with torch.no_grad():
        scores, deltas = head(feats)
        scores = [x * 40 for x in scores]  # untrained scores are all alike
        meta = dict(img_shape=(250, 240), ori_shape=(500, 300), scale_factor=(240 / 300, 250 / 500))
        (expected,) = head.predict_by_feat(scores, deltas, batch_img_metas=[meta], cfg=cfg, rescale=True)
        model.extract_feat = lambda images: feats
        model.bbox_head.forward = lambda feats: (scores, deltas)
        boxes, probabilities, counts = DetectorNetwork(model).decode(torch.zeros(1, 3, 256, 256))
    how = NMS(0.25, 0.45, nms_pre if nms_pre > 0 else None, max_per_image=60, class_agnostic=False, min_size=0)
    image = Prepared(np.zeros((250, 240, 3), np.uint8), (300, 500))
    found = select_boxes(boxes[0].numpy(), probabilities[0].numpy(), np.cumsum([0, *counts]), image, how)
    assert len(found.boxes) > 20
    np.testing.assert_array_equal(found.labels, expected.labels.numpy())
    np.testing.assert_allclose(found.boxes, expected.bboxes.numpy(), atol=1e-3)
    np.testing.assert_allclose(found.scores, expected.scores.numpy(), atol=1e-6)


@pytest.mark.toolbox
@pytest.mark.parametrize('align_corners', [False, True])
@pytest.mark.parametrize(
    ('original', 'inside', 'size'), [((90, 70), (60, 47), (64, 48)), ((33, 25), (64, 48), (64, 48))]
)
def test_label_maps_equal_two_interpolations_in_pytorch(original, inside, size, align_corners):
    import torch
    import torch.nn.functional as F

    logits = np.random.default_rng(0).normal(size=(5, 6, 8)).astype(np.float32)
    image = Prepared(np.zeros((inside[1], inside[0], 3), np.uint8), original)
    found = label_map(logits, image, size, align_corners)
    at_input = F.interpolate(torch.from_numpy(logits)[None], size[::-1], mode='bilinear', align_corners=align_corners)
    cut = at_input[..., : inside[1], : inside[0]]
    expected = F.interpolate(cut, original[::-1], mode='bilinear', align_corners=align_corners)[0].argmax(0)
    assert found.shape == (original[1], original[0])
    assert found.dtype == np.uint8
    assert np.mean(found == expected.numpy()) > 0.999


def test_interpolation_to_the_same_size_changes_nothing():
    for align_corners in (False, True):
        np.testing.assert_allclose(interpolation_matrix(7, 7, align_corners), np.eye(7), atol=1e-6)
