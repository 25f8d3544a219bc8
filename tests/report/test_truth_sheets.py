"""Sheets of the truth alone."""

from __future__ import annotations

import numpy as np
from PIL import Image

from emo_mm.report.sheets import IGNORED, Boxes, Cell, boxes_picture, mask_pictures, square_picture, truth_sheet
from emo_mm.runtime.colours import class_colours

COLOURS = class_colours(2)
GREY = np.full((60, 80, 3), 100, np.uint8)


def has(picture: Image.Image, colour: tuple[int, int, int]) -> bool:
    return bool((np.asarray(picture) == np.array(colour)).all(axis=-1).any())


def test_outlines_are_filled_lightly_and_boxes_drawn_around_them():
    boxes = Boxes(np.array([[20, 10, 60, 50]], float), np.array([1]))
    plain = boxes_picture(GREY, boxes, [()], ('cat', 'dog'), COLOURS, tile=160)
    filled = boxes_picture(GREY, boxes, [[(24, 14, 56, 14, 40, 46)]], ('cat', 'dog'), COLOURS, tile=160)
    assert has(plain, COLOURS[1])
    assert plain.getpixel((80, 50)) == (100, 100, 100)
    red, _, blue = filled.getpixel((80, 50))
    assert blue > 100 > red
    assert filled.getpixel((44, 90)) == (100, 100, 100), 'outside the triangle'


def test_a_mask_lies_over_its_picture_and_ignored_pixels_are_dark():
    mask = np.zeros((60, 80), np.uint8)
    mask[:, 40:], mask[30:] = 1, IGNORED
    picture, overlay = mask_pictures(GREY, mask, COLOURS + [(0, 0, 0)] * 253, tile=160)
    assert picture.size == overlay.size == (160, 120)
    assert overlay.getpixel((20, 20))[0] > 150
    assert overlay.getpixel((140, 20))[2] > 150
    assert max(overlay.getpixel((80, 100))) < 40


def test_captions_of_what_is_at_fault_are_red_and_long_ones_are_cut():
    cells = [Cell((square_picture(GREY),), ('a' * 200,)), Cell((square_picture(GREY),), ('damaged',), fault=True)]
    sheet = truth_sheet(cells, columns=2, title='train', legend=[('猫', COLOURS[0])])
    assert sheet.width == 3 * 8 + 2 * 160
    assert has(sheet, COLOURS[0])
    left, right = sheet.crop((0, 0, 168, sheet.height - 40)), sheet.crop((176, 0, sheet.width, sheet.height - 40))
    assert has(right, (214, 40, 40))
    assert not has(left, (214, 40, 40))
