"""Objects drawn into photographs: their masks show what is below, and none hides another."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from emo_mm.predict.outputs import mask_picture
from emo_mm.runtime.drawing import draw_result
from emo_mm.runtime.masks import Masks
from emo_mm.runtime.results import Classification, Detections, Segmentation

CLASSES, COLOURS = ('cat', 'dog'), ((200, 20, 60), (0, 100, 240))
GREY = np.full((480, 640, 3), 100, np.uint8)
THICKNESS = 2  # of an outline at this size


def objects(*rectangles: tuple[int, int, int, int]) -> Detections:
    """Objects of one class after the other that fill rectangles; their boxes are where nothing is looked at."""
    parts = [np.ones((bottom - top, right - left), bool) for left, top, right, bottom in rectangles]
    masks = Masks(parts, np.array([box[:2] for box in rectangles]), (640, 480))
    count = len(rectangles)
    boxes = np.tile(np.array([[560, 440, 600, 470]], np.float32), (count, 1))
    return Detections(boxes, np.linspace(0.9, 0.5, count, dtype=np.float32), np.arange(count) % 2, masks)


def mixed(label: int) -> np.ndarray:
    return np.round(100 * 0.55 + np.array(COLOURS[label]) * 0.45).astype(np.uint8)


def test_a_mask_lets_the_photograph_through_and_has_an_outline():
    before = GREY.copy()
    drawn = draw_result(GREY, objects((100, 100, 200, 180)), CLASSES, COLOURS)
    assert (drawn[100 + THICKNESS : 180 - THICKNESS, 100 + THICKNESS : 200 - THICKNESS] == mixed(0)).all()
    for edge in (drawn[100:102, 100:200], drawn[178:180, 100:200], drawn[100:180, 100:102], drawn[100:180, 198:200]):
        assert (edge == COLOURS[0]).all()
    assert (drawn[90:190, 80:100] == 100).all()
    assert (drawn[90:190, 200:210] == 100).all()
    np.testing.assert_array_equal(GREY, before)


def test_a_hole_has_an_outline_too():
    found = objects((100, 100, 200, 200))
    found.masks.parts[0][40:60, 40:60] = False
    drawn = draw_result(GREY, found, CLASSES, COLOURS)
    assert (drawn[140:160, 140:160] == 100).all()
    assert (drawn[138:140, 140:160] == COLOURS[0]).all()


def test_a_small_object_is_not_covered_by_its_outline():
    drawn = draw_result(GREY, objects((100, 100, 108, 106)), CLASSES, COLOURS)
    assert (drawn[100:106, 100:108] == mixed(0)).all()


def test_a_small_object_is_seen_in_a_larger_one_that_scores_better():
    drawn = draw_result(GREY, objects((50, 50, 350, 350), (100, 100, 160, 160)), CLASSES, COLOURS)
    assert (drawn[102:158, 102:158] == mixed(1)).all()  # and its colour is not mixed with the other
    assert (drawn[100:102, 100:160] == COLOURS[1]).all()
    assert (drawn[170:340, 170:340] == mixed(0)).all()


def test_of_two_objects_of_a_size_the_better_lies_on_top():
    drawn = draw_result(GREY, objects((100, 100, 200, 200), (150, 100, 250, 200)), CLASSES, COLOURS)
    assert (drawn[110:190, 152:198] == mixed(0)).all()


def test_masks_at_the_border_and_none_are_drawn():
    draw_result(GREY, objects((0, 0, 640, 480), (630, 470, 640, 480), (7, 7, 7, 7)), CLASSES, COLOURS)
    none = objects()
    np.testing.assert_array_equal(draw_result(GREY, none, CLASSES, COLOURS), GREY)
    some = objects((100, 100, 200, 200))
    without = draw_result(GREY, replace(some, masks=None), CLASSES, COLOURS)
    assert (without[90:210, 90:210] == 100).all()


def test_a_picture_of_more_than_255_objects_has_16_bits(tmp_path):
    mask_picture(objects(*[(i, 0, i + 1, 2) for i in range(300)])).save(tmp_path / 'a.png')
    with Image.open(tmp_path / 'a.png') as picture:
        assert picture.mode.startswith('I')
        np.testing.assert_array_equal(np.asarray(picture)[0, :301], [*range(1, 301), 0])


def test_all_255_objects_of_8_bits_have_a_colour_and_keep_their_number(tmp_path):
    mask_picture(objects(*[(i, 0, i + 1, 2) for i in range(255)])).save(tmp_path / 'a.png')
    with Image.open(tmp_path / 'a.png') as picture:
        np.testing.assert_array_equal(np.asarray(picture)[0, :256], [*range(1, 256), 0])
        assert len(np.unique(np.asarray(picture.convert('RGB')).reshape(-1, 3), axis=0)) == 256


def test_opencv_reads_the_colours_of_objects(tmp_path):
    cv2 = pytest.importorskip('cv2')
    mask_picture(objects((0, 0, 640, 480))).save(tmp_path / 'a.png')
    assert cv2.imread(str(tmp_path / 'a.png'), cv2.IMREAD_UNCHANGED).shape == (480, 640, 3)


def test_only_what_has_pixels_makes_a_picture_of_them():
    assert mask_picture(replace(objects(), masks=None)) is None
    assert mask_picture(Classification(np.ones(1, np.float32))) is None
    assert mask_picture(Segmentation(np.ones((4, 5), np.uint8))).mode == 'L'
