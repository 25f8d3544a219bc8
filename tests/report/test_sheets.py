from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from emo_mm.report.sheets import (
    Boxes,
    classification_sheet,
    detection_sheet,
    segmentation_sheet,
)
from emo_mm.runtime.colours import class_colours

CLASSES = ('cat', 'dog')
RED, BLUE = class_colours(2)


PAINT = (100, 128, 156)  # a colour that no text or frame has; its mean, 128, is what overlays grey it to


def plain(height: int = 60, width: int = 80) -> np.ndarray:
    return np.full((height, width, 3), PAINT, np.uint8)


def boxes(*rows: tuple[float, ...], scores: list[float] | None = None) -> Boxes:
    table = np.array(rows, float).reshape(-1, 5)
    return Boxes(table[:, :4], table[:, 4].astype(int), None if scores is None else np.array(scores))


def read(path) -> np.ndarray:
    return np.asarray(Image.open(path).convert('RGB'))


def where(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return (picture == np.array(colour)).all(axis=-1)


def test_truth_is_left_and_sure_predictions_right(tmp_path):
    out = tmp_path / 'new' / 'sheet.png'
    truth = boxes((10, 20, 60, 55, 0))
    found = boxes((10, 20, 60, 55, 1), (5, 20, 75, 58, 0), scores=[0.9, 0.1])
    detection_sheet([plain()], [truth], [found], CLASSES, out, tile=160)
    picture = read(out)
    middle = picture.shape[1] // 2
    assert where(picture[:, :middle], RED).any()
    assert not where(picture[:, :middle], BLUE).any()
    assert where(picture[:, middle:], BLUE).any()
    assert not where(picture[:, middle:], RED).any(), 'a prediction under the threshold was drawn'


def test_boxes_are_scaled_with_their_picture(tmp_path):
    detection_sheet([plain()], [boxes((20, 30, 60, 50, 0))], [boxes(scores=[])], CLASSES, tmp_path / 'a.png', tile=160)
    picture = read(tmp_path / 'a.png')
    rows, columns = np.nonzero(where(picture, RED))
    plain_rows, plain_columns = np.nonzero(where(picture, PAINT))
    # The picture is doubled, so the frame's right and lower edges lie at 120 and 100 from its corner.
    assert columns.max() - plain_columns.min() == 120
    assert rows.max() - plain_rows.min() == 100


def test_many_pictures_of_any_size_fill_a_grid(tmp_path):
    images = [plain(50, 80), plain(90, 40), plain(64, 64)]
    nothing = [boxes()] * 3
    detection_sheet(images, nothing, [boxes(scores=[])] * 3, CLASSES, tmp_path / 'a.png', columns=2, tile=64, title='T')
    detection_sheet(images[:1], nothing[:1], [boxes(scores=[])], CLASSES, tmp_path / 'b.png', columns=2, tile=64)
    assert read(tmp_path / 'a.png').shape[1] > 1.9 * read(tmp_path / 'b.png').shape[1]
    assert read(tmp_path / 'a.png').shape[0] > 2 * 64


def test_boxes_refuse_lengths_that_differ():
    with pytest.raises(ValueError, match=r'xyxy \(2, 4\), labels \(1,\)'):
        Boxes(np.zeros((2, 4)), np.zeros(1, int))
    with pytest.raises(ValueError, match='scores'):
        Boxes(np.zeros((1, 4)), np.zeros(1, int), np.zeros(2))


@pytest.mark.parametrize(
    ('images', 'truths', 'found', 'message'),
    [
        ([], [], [], 'at least one image'),
        ([plain()], [boxes()], [], '1 images but 0 predictions'),
        ([plain()[..., 0]], [boxes()], [boxes(scores=[])], 'RGB uint8'),
        ([plain() / 255], [boxes()], [boxes(scores=[])], 'float64'),
        ([plain()], [boxes()], [boxes()], 'need scores'),
        ([plain()], [boxes((1, 1, 9, 9, 2))], [boxes(scores=[])], 'label 2 has no class'),
    ],
)
def test_detection_sheet_names_what_is_wrong(tmp_path, images, truths, found, message):
    with pytest.raises(ValueError, match=message):
        detection_sheet(images, truths, found, CLASSES, tmp_path / 'a.png')
    assert not (tmp_path / 'a.png').exists()


def test_overlays_take_the_palette_and_darken_ignored_pixels(tmp_path):
    truth = np.zeros((60, 80), np.uint8)
    truth[:, 40:] = 1
    truth[:20] = 255
    predicted = np.ones((60, 80), np.int64)
    palette = [(0, 0, 250), (250, 0, 0)]
    segmentation_sheet([plain()], [truth], [predicted], CLASSES, palette, tmp_path / 'a.png', tile=80)
    picture = read(tmp_path / 'a.png').astype(int)
    left = [int(np.nonzero(where(picture, PAINT))[1].min()) + part * 82 for part in range(3)]
    top = int(np.nonzero(where(picture, PAINT))[0].min())
    blend_cat, blend_dog = (51, 51, 201), (201, 51, 51)  # 0.4 of the grey picture and 0.6 of the class colour
    assert tuple(picture[top + 40, left[1] + 20]) == blend_cat
    assert tuple(picture[top + 40, left[1] + 60]) == blend_dog
    assert picture[top + 10, left[1] + 20].max() < 40
    assert tuple(picture[top + 10, left[2] + 20]) == blend_dog
    # Legend: a swatch of either class in its full colour.
    assert where(picture, palette[0]).sum() > 50
    assert where(picture, palette[1]).sum() > 50


@pytest.mark.parametrize(
    ('truth', 'palette', 'message'),
    [
        (np.zeros((60, 80), np.uint8), [(0, 0, 0)], '1 colours for 2 classes'),
        (np.zeros((60, 81), np.uint8), [(0, 0, 0), (1, 1, 1)], r'shape \(60, 81\)'),
        (np.full((60, 80), 7, np.uint8), [(0, 0, 0), (1, 1, 1)], 'holds 7, but there are 2 classes'),
    ],
)
def test_segmentation_sheet_names_what_is_wrong(tmp_path, truth, palette, message):
    with pytest.raises(ValueError, match=message):
        segmentation_sheet([plain()], [truth], [np.zeros((60, 80), np.uint8)], CLASSES, palette, tmp_path / 'a.png')


def test_only_mistakes_are_framed_red(tmp_path):
    red = (214, 40, 40)
    classification_sheet([plain(), plain(80, 60)], [0, 1], [0, 1], [0.9, 0.8], CLASSES, tmp_path / 'right.png', tile=80)
    assert not where(read(tmp_path / 'right.png'), red).any()
    classification_sheet([plain(), plain()], [0, 1], [0, 0], [0.9, 0.8], CLASSES, tmp_path / 'wrong.png', tile=80)
    picture = read(tmp_path / 'wrong.png')
    assert where(picture, red)[:, picture.shape[1] // 2 :].sum() > 4 * 4 * 70
    assert not where(picture, red)[:, : picture.shape[1] // 2].any()


def test_classification_sheet_names_what_is_wrong(tmp_path):
    with pytest.raises(ValueError, match='1 images but 2 scores'):
        classification_sheet([plain()], [0], [0], [0.5, 0.5], CLASSES, tmp_path / 'a.png')
    with pytest.raises(ValueError, match='label 2 has no class'):
        classification_sheet([plain()], [0], [2], [0.5], CLASSES, tmp_path / 'a.png')
