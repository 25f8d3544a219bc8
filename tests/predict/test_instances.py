"""Instance segmenters answer as mmdet's own prediction of the same tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from shallow_models import shallow

from emo_mm.errors import UserError
from emo_mm.predict.instances import RTMDetInsNetwork, instance_network
from emo_mm.predict.network import DetectorNetwork
from emo_mm.predict.session import torch_metadata
from emo_mm.runtime.masks import logits_of
from emo_mm.runtime.postprocess import results_of
from emo_mm.runtime.preprocess import Prepared

pytestmark = pytest.mark.toolbox
SIZE = (128, 160)  # height and width


def answers_of_mmdet(model: Any, images: torch.Tensor) -> list[Any]:
    from mmdet.structures import DetDataSample
    from mmengine.registry import DefaultScope

    meta = {'img_shape': SIZE, 'ori_shape': SIZE, 'batch_input_shape': SIZE, 'scale_factor': (1.0, 1.0)}
    with DefaultScope.overwrite_default_scope('mmdet'):
        samples = model.predict(images, [DetDataSample(metainfo=meta) for _ in images], rescale=True)
    return [sample.pred_instances for sample in samples]


@pytest.mark.parametrize('kind', ['RTMDet-Ins', 'Mask R-CNN'])
@torch.no_grad()
def test_boxes_and_masks_equal_those_of_mmdet(kind):
    torch.manual_seed(1)
    loaded, images = shallow(kind), torch.randn(2, 3, *SIZE)
    network = instance_network(loaded.model)
    outputs = [x.numpy() for x in network.outputs(network.decode(images))]
    blank = Prepared(np.zeros((*SIZE, 3), np.uint8), SIZE[::-1])
    found = results_of(outputs, [blank, blank], SIZE[::-1], torch_metadata(loaded))
    for ours, theirs in zip(found, answers_of_mmdet(loaded.model, images), strict=True):
        assert len(ours.labels) == len(theirs) > 10
        np.testing.assert_array_equal(ours.labels, theirs.labels)
        np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-6)
        np.testing.assert_allclose(ours.boxes, theirs.bboxes, atol=1e-3)
        masks, expected = np.asarray(ours.masks), theirs.masks.numpy()
        assert 0.01 < expected.mean() < 0.99
        # two interpolations at once round differently where a pixel is about at the threshold
        assert (masks != expected).mean() < 1e-4


@torch.no_grad()
def test_a_graph_makes_the_masks_that_the_runtime_makes():
    network: Any = RTMDetInsNetwork(shallow('RTMDet-Ins').model)
    *_, kernels, prototypes, _ = network.decode(torch.randn(2, 3, *SIZE))
    some = kernels[:, 5:25]
    in_graph = network.masks(some, prototypes).numpy()
    for image in range(2):
        ours = logits_of(some[image].numpy(), prototypes[image].numpy(), network.channels)
        np.testing.assert_allclose(in_graph[image], ours, rtol=1e-4, atol=1e-4)


def test_a_detector_without_masks_is_no_instance_segmenter():
    with pytest.raises(UserError, match='RTMDetSepBNHead predicts masks in a way of its own'):
        instance_network(shallow('RTMDet').model)


def test_a_detector_of_two_stages_is_no_detector_of_one():
    with pytest.raises(UserError, match='MaskRCNN predicts in a way of its own; known are heads of one stage'):
        DetectorNetwork(shallow('Mask R-CNN').model)


def test_a_mask_r_cnn_of_other_parts_is_refused():
    from mmdet.models.roi_heads import FCNMaskHead

    class Own(FCNMaskHead):
        pass

    model = shallow('Mask R-CNN').model
    head = model.roi_head.mask_head
    try:
        head.__class__ = Own
        with pytest.raises(UserError, match='Own predicts in a way of its own'):
            instance_network(model)
    finally:
        head.__class__ = FCNMaskHead
