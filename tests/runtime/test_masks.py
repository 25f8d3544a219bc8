"""Masks of objects in NumPy equal those of PyTorch and mmdet, and their RLE that of pycocotools."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from emo_mm.runtime.masks import Masks, layer_shapes, logits_of, over_boxes, over_input
from emo_mm.runtime.postprocess import interpolation_matrix


def some_masks(count: int = 5, width: int = 37, height: int = 29, seed: int = 0) -> tuple[Masks, np.ndarray]:
    """Return masks, and the same as whole arrays (K, H, W)."""
    rng = np.random.default_rng(seed)
    whole, parts, corners = np.zeros((count, height, width), bool), [], []
    for index in range(count):
        left, right = np.sort(rng.integers(0, width + 1, 2))
        top, bottom = np.sort(rng.integers(0, height + 1, 2))
        parts.append(rng.random((bottom - top, right - left)) < 0.6)
        corners.append((left, top))
        whole[index, top:bottom, left:right] = parts[-1]
    return Masks(parts, np.array(corners), (width, height)), whole


# --- the masks of a photograph ----------------------------------------------------------------------------------------


def test_masks_are_asked_for_like_an_array():
    masks, whole = some_masks()
    assert len(masks) == 5
    np.testing.assert_array_equal(np.asarray(masks), whole)
    assert np.asarray(masks, np.uint8).dtype == np.uint8
    for index, mask in enumerate(masks):
        np.testing.assert_array_equal(mask, whole[index])
    np.testing.assert_array_equal(masks[np.int64(2)], whole[2])
    np.testing.assert_array_equal(masks[-1], whole[-1])
    np.testing.assert_array_equal(masks.areas, whole.sum((1, 2)))
    with pytest.raises(IndexError):
        masks[5]
    with pytest.raises(ValueError, match='nothing that could be shared'):
        masks.__array__(copy=False)


@pytest.mark.parametrize('chosen', [slice(1, 3), [0, 4], [], np.array([True, False, False, True, True])], ids=str)
def test_some_of_the_masks_are_chosen_as_some_of_the_boxes_are(chosen):
    masks, whole = some_masks()
    np.testing.assert_array_equal(np.asarray(masks[chosen]), whole[chosen])


def test_no_masks_are_an_array_of_the_photographs_size():
    none = Masks([], np.zeros((0, 2)), (40, 30))
    assert np.asarray(none).shape == (0, 30, 40)
    assert none.areas.shape == (0,)
    assert list(none) == []
    assert not none.numbers().any()


def test_only_the_rectangles_of_objects_are_kept():
    logits = np.full((100, 80, 80), -5, np.float32)
    logits[:, 40:44, 40:44] = 5
    to_photograph = interpolation_matrix(80, 8000, False)
    parts, _ = over_input(logits[:2], to_photograph, to_photograph, 0.5)
    assert sum(part.nbytes for part in parts) < 2 * 600**2  # two masks of the whole photograph are 128 MB
    boxes = np.tile(np.array([[4000, 4000, 4400, 4400]], np.float32), (100, 1))
    parts, _ = over_boxes(np.ones((100, 28, 28), np.float32), boxes, (8000, 8000), 0.5)
    assert sum(part.nbytes for part in parts) == 100 * 400**2


def test_the_first_object_is_seen_where_some_overlap():
    masks, whole = some_masks()
    expected = np.where(whole.any(0), whole.argmax(0) + 1, 0)
    np.testing.assert_array_equal(masks.numbers(), expected)
    assert masks.numbers().dtype == np.uint8


def test_more_than_255_objects_are_numbered_in_16_bits():
    corners = np.stack(np.divmod(np.arange(400), 20), axis=1)
    numbers = Masks([np.ones((1, 1), bool)] * 400, corners, (20, 20)).numbers()
    assert numbers.dtype == np.uint16
    np.testing.assert_array_equal(np.sort(numbers.ravel()), np.arange(1, 401))


def test_rle_equals_that_of_pycocotools():
    coco = pytest.importorskip('pycocotools.mask')
    whole = [*some_masks(40)[1], *some_masks(40, 1, 70, seed=1)[1], *some_masks(40, 70, 1, seed=2)[1]]
    whole += [np.zeros((20, 30), bool), np.ones((20, 30), bool), np.ones((700, 900), bool)]
    for mask in whole:
        # the whole as a rectangle: objects at the borders, whose runs go on in the next column
        ours = Masks([mask], np.zeros((1, 2)), mask.shape[::-1]).rle(0)
        theirs = coco.encode(np.asfortranarray(mask, np.uint8))
        assert (ours['size'], ours['counts']) == (list(theirs['size']), theirs['counts'].decode())


def test_rle_of_a_rectangle_counts_the_photograph_around_it():
    coco = pytest.importorskip('pycocotools.mask')
    for seed in range(10):
        masks, whole = some_masks(seed=seed)
        for index, mask in enumerate(whole):
            np.testing.assert_array_equal(coco.decode(masks.rle(index)), mask)
            assert masks.rle(index)['counts'] == coco.encode(np.asfortranarray(mask, np.uint8))['counts'].decode()


# --- from what a network gives ----------------------------------------------------------------------------------------


def by_torch(kernels: np.ndarray, prototypes: np.ndarray, channels: int) -> np.ndarray:
    """Masks as mmdet's RTMDet-Ins makes them: grouped convolutions over places and prototypes."""
    import torch
    import torch.nn.functional as F

    count, height, width = prototypes.shape
    objects = len(kernels)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing='ij')
    cells = torch.cat([torch.stack([x, y]).float(), torch.from_numpy(prototypes)])
    values = cells[None].repeat(objects, 1, 1, 1).reshape(1, -1, height, width)
    inputs = [count + 2, channels, channels]
    outputs = [channels, channels, 1]
    sizes = [a * b for a, b in zip(inputs, outputs, strict=True)] + outputs
    pieces = torch.from_numpy(kernels).split_with_sizes(sizes, dim=1)
    for layer, (given, made) in enumerate(zip(inputs, outputs, strict=True)):
        weight = pieces[layer].reshape(objects * made, given, 1, 1)
        values = F.conv2d(values, weight, pieces[3 + layer].reshape(-1), groups=objects)
        if layer < 2:
            values = F.relu(values)
    return values.reshape(objects, height, width).numpy()


@pytest.mark.parametrize('objects', [1, 7, 300])
def test_kernels_are_the_grouped_convolutions_of_rtmdet(objects):
    pytest.importorskip('torch')
    rng = np.random.default_rng(0)
    channels, prototypes = 8, rng.normal(size=(8, 30, 40)).astype(np.float32)
    # 169 parameters: 10 * 8 + 8 * 8 + 8 weights, 8 + 8 + 1 biases
    kernels = rng.normal(size=(objects, 169)).astype(np.float32) * 0.1
    found = logits_of(kernels, prototypes, channels)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, by_torch(kernels, prototypes, channels), rtol=1e-4, atol=1e-3)


def test_no_objects_have_no_logits():
    found = logits_of(np.zeros((0, 169), np.float32), np.zeros((8, 6, 5), np.float32), 8)
    assert found.shape == (0, 6, 5)


def test_the_layers_follow_from_the_number_of_parameters():
    assert layer_shapes(169, 10, 8) == [(8, 10), (8, 8), (1, 8)]
    assert layer_shapes(97, 10, 8) == [(8, 10), (1, 8)]
    for parameters in (0, 96, 98, 168):
        with pytest.raises(ValueError, match=f'^{parameters} parameters are not those of layers of 8 channels'):
            layer_shapes(parameters, 10, 8)


@pytest.mark.parametrize('threshold', [0.3, 0.5, 0.8])
@pytest.mark.parametrize(
    ('original', 'inside', 'size'), [((90, 70), (60, 47), (64, 48)), ((33, 25), (64, 48), (64, 48))]
)
def test_masks_over_the_input_equal_two_interpolations_in_pytorch(original, inside, size, threshold):
    torch = pytest.importorskip('torch')
    import torch.nn.functional as F

    from emo_mm.runtime.postprocess import _to_photograph
    from emo_mm.runtime.preprocess import Prepared

    logits = np.random.default_rng(0).normal(size=(9, 6, 8)).astype(np.float32) * 3
    logits[0] = -1  # no pixel
    logits[1] = 9  # all of them
    logits[2:5, :, :4] = -9
    image = Prepared(np.zeros((inside[1], inside[0], 3), np.uint8), original)
    parts, corners = over_input(logits, *_to_photograph(logits, image, size), threshold)
    found = np.asarray(Masks(parts, corners, original))
    at_input = F.interpolate(torch.from_numpy(logits)[None], size[::-1], mode='bilinear')
    whole = F.interpolate(at_input[..., : inside[1], : inside[0]], original[::-1], mode='bilinear')[0]
    expected = (whole.sigmoid() > threshold).numpy()
    # rounding may decide where a value is the threshold
    sure = ((whole.sigmoid() - threshold).abs() > 1e-5).numpy()
    np.testing.assert_array_equal(found[sure], expected[sure])
    assert sure.mean() > 0.999
    assert 0.1 < found.mean() < 0.9
    assert not found[0].any()
    assert found[1].all()


@pytest.mark.toolbox
@pytest.mark.parametrize('threshold', [0.5, 0.7])
def test_masks_over_boxes_equal_those_that_mmdet_pastes(threshold):
    import torch
    from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask

    rng = np.random.default_rng(0)
    low = rng.uniform(-20, 60, (60, 2))
    boxes = np.hstack([low, low + rng.uniform(0.3, 60, (60, 2))]).clip(0, [80, 60, 80, 60]).astype(np.float32)
    boxes[0] = 10, 10, 20, 20
    boxes[1] = 0, 0, 80, 60
    boxes[2] = 7, 9, 7, 30  # no width
    boxes[3] = 80, 60, 80, 60
    logits = rng.normal(size=(60, 28, 28)).astype(np.float32) * 2
    parts, corners = over_boxes(logits, boxes, (80, 60), threshold)
    found = np.asarray(Masks(parts, corners, (80, 60)))
    wide = np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(1))  # mmdet divides by the sides
    probabilities = torch.from_numpy(logits[wide])[:, None].sigmoid()
    pasted, _ = _do_paste_mask(probabilities, torch.from_numpy(boxes[wide]), 60, 80, skip_empty=False)
    sure = ((pasted - threshold).abs() > 1e-5).numpy()
    np.testing.assert_array_equal(found[wide][sure], (pasted >= threshold).numpy()[sure])
    assert sure.mean() > 0.999
    assert not found[2].any()
    assert not found[3].any()


def test_certain_logits_are_no_overflow():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        parts, _ = over_boxes(np.full((1, 2, 2), -1e4, np.float32), np.array([[0.0, 0, 4, 4]]), (8, 8), 0.5)
    assert not parts[0].any()
