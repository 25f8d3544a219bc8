"""Sheets of pictures that show predictions beside the truth.

Everything here takes plain arrays, so that any toolbox, or none, can feed it. Pictures are RGB, uint8,
(height, width, 3), of any size; each is scaled into a tile of a fixed width.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from emo_mm.runtime.colours import Colour, class_colours
from emo_mm.runtime.drawing import NamedBox, draw_boxes, with_objects
from emo_mm.runtime.fonts import Font, drawable
from emo_mm.runtime.masks import Masks

#: Mask value of pixels that count for nothing.
IGNORED = 255

_PAPER: Colour = (255, 255, 255)
_INK: Colour = (35, 35, 35)
_FAINT: Colour = (110, 110, 110)
_RIGHT: Colour = (58, 145, 80)
_WRONG: Colour = (214, 40, 40)
_GAP = 8
_LINE = 20  # height of a line of text in pixels
_FILLED = 0.35  # share of the colour of a class inside an outline
_CROWDED = 12  # with more boxes than this, frames and names are drawn finer


@dataclass(frozen=True)
class Boxes:
    """The boxes of one picture.

    Attributes:
        xyxy: Corners left, top, right, bottom in pixels of the picture, shape (n, 4).
        labels: Class index of each box, shape (n,).
        scores: Confidence of each box, 0 to 1, shape (n,); None for the truth.
        outlines: The pixels of each object as COCO's RLE; None where only boxes are known.
    """

    xyxy: np.ndarray
    labels: np.ndarray
    scores: np.ndarray | None = None
    outlines: tuple[dict[str, Any], ...] | None = None

    def __post_init__(self) -> None:
        count = len(self.labels)
        if self.xyxy.shape != (count, 4) or (self.scores is not None and len(self.scores) != count):
            scores = 'None' if self.scores is None else self.scores.shape
            raise ValueError(
                f'boxes do not match: xyxy {self.xyxy.shape}, labels {self.labels.shape}, scores {scores}; '
                f'expected (n, 4), (n,), (n,)'
            )

    def chosen(self, index: np.ndarray) -> Boxes:
        """Return some of the boxes, by numbers or by whether they stay."""
        numbers = np.arange(len(self.labels))[index]
        scores = None if self.scores is None else self.scores[numbers]
        outlines = None if self.outlines is None else tuple(self.outlines[number] for number in numbers)
        return Boxes(self.xyxy[numbers], self.labels[numbers], scores, outlines)


# --- detection --------------------------------------------------------------------------------------------------------


def detection_sheet(
    images: Sequence[np.ndarray],
    truths: Sequence[Boxes],
    predictions: Sequence[Boxes],
    classes: Sequence[str],
    out_png: str | Path,
    *,
    columns: int = 2,
    score_thr: float = 0.3,
    tile: int = 256,
    title: str = '',
) -> None:
    """Write a sheet of pictures with their true boxes on the left and the predicted ones on the right.

    Args:
        images: Pictures.
        truths: True boxes of each.
        predictions: Predicted boxes of each, with scores.
        classes: Name of each label.
        out_png: File to write; its folder is made when absent.
        columns: Pairs side by side.
        score_thr: Predictions below this score are left out.
        tile: Width of one picture on the sheet in pixels.
        title: Line above everything; none where empty.

    Raises:
        ValueError: Lengths differ, an image is not RGB uint8, or a label has no class.
    """
    _check_pictures(images, truths=truths, predictions=predictions)
    colours = class_colours(len(classes))
    cells = []
    for image, truth, found in zip(images, truths, predictions, strict=True):
        if found.scores is None:
            raise ValueError('predictions need scores, got Boxes with scores=None')
        sure = found.scores >= score_thr
        # Least certain first, so that the best lie on top.
        order = np.flatnonzero(sure)[np.argsort(found.scores[sure], kind='stable')]
        kept = found.chosen(order)
        crowded = max(len(truth.labels), len(kept.labels)) > _CROWDED
        cells.append([_draw_boxes(image, boxes, classes, colours, tile, crowded) for boxes in (truth, kept)])
    headings = ['truth', f'prediction (score from {score_thr:g})']
    _save(_lay_out(cells, headings, columns, title), out_png)


def _draw_boxes(
    image: np.ndarray, boxes: Boxes, classes: Sequence[str], colours: Sequence[Colour], tile: int, crowded: bool
) -> Image.Image:
    if boxes.outlines is not None:
        _check_labels(boxes.labels, classes)
        thickness = max(1, round(2 * image.shape[1] / tile))  # two pixels on the tile
        image = with_objects(image, _masks_of(boxes.outlines, image), [colours[k] for k in boxes.labels], thickness)
    return _on_tile(*_to_tile(image, tile), boxes, classes, colours, crowded)


def _masks_of(outlines: Sequence[dict[str, Any]], image: np.ndarray) -> Masks:
    """Return the masks that RLEs of a picture stand for."""
    from pycocotools import mask as mask_utils  # only detection has it

    corners, parts = [], []
    for rle in outlines:
        left, top, width, height = mask_utils.toBbox(rle).astype(int)
        corners.append((left, top))
        parts.append(mask_utils.decode(rle)[top : top + height, left : left + width] > 0)
    return Masks(parts, np.array(corners), (image.shape[1], image.shape[0]))


def _on_tile(
    picture: Image.Image, scale: float, boxes: Boxes, classes: Sequence[str], colours: Sequence[Colour], crowded: bool
) -> Image.Image:
    """Draw boxes into a picture that was scaled by a factor."""
    _check_labels(boxes.labels, classes)
    scores = [''] * len(boxes.labels) if boxes.scores is None else [f' {score:.2f}' for score in boxes.scores]
    rows = zip((boxes.xyxy * scale).tolist(), boxes.labels, scores, strict=True)
    named = [NamedBox(corners, f'{classes[label]}{score}', colours[label]) for corners, label, score in rows]
    draw_boxes(picture, named, _font(9 if crowded else 11, bold=True), thickness=1 if crowded else 2)
    return picture


# --- segmentation -----------------------------------------------------------------------------------------------------


def segmentation_sheet(
    images: Sequence[np.ndarray],
    truth_masks: Sequence[np.ndarray],
    pred_masks: Sequence[np.ndarray],
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    out_png: str | Path,
    *,
    columns: int = 1,
    tile: int = 256,
    title: str = '',
) -> None:
    """Write a sheet of pictures, each beside its true and its predicted mask laid over it, with a legend.

    Pixels of value 255 in the truth count for nothing and are shown darkened.

    Args:
        images: Pictures.
        truth_masks: Class index of each pixel, shape (height, width) of the picture; 255 is ignored.
        pred_masks: Likewise, as predicted.
        classes: Name of each class index.
        palette: RGB colour of each class index, 0 to 255.
        out_png: File to write; its folder is made when absent.
        columns: Triples side by side.
        tile: Width of one picture on the sheet in pixels.
        title: Line above everything; none where empty.

    Raises:
        ValueError: Lengths or sizes differ, an image is not RGB uint8, or a mask holds a value without a class.
    """
    _check_pictures(images, truth_masks=truth_masks, pred_masks=pred_masks)
    if len(palette) != len(classes):
        raise ValueError(f'palette has {len(palette)} colours for {len(classes)} classes')
    table = np.zeros((256, 3), np.uint8)
    table[: len(classes)] = np.asarray(palette, np.uint8).reshape(-1, 3)
    cells = []
    present: set[int] = set()
    for image, truth, predicted in zip(images, truth_masks, pred_masks, strict=True):
        for name, mask in (('truth', truth), ('predicted', predicted)):
            if mask.shape != image.shape[:2]:
                raise ValueError(f'the {name} mask has shape {mask.shape}, its image {image.shape[:2]}')
            values = {int(value) for value in np.unique(mask)}
            present |= values
            if wrong := sorted(value for value in values - {IGNORED} if not 0 <= value < len(classes)):
                raise ValueError(f'the {name} mask holds {wrong[0]}, but there are {len(classes)} classes')
        overlays = [_overlay(image, mask.astype(np.uint8), table) for mask in (truth, predicted)]
        cells.append([_to_tile(picture, tile)[0] for picture in (image, *overlays)])
    entries = [(classes[value], tuple(table[value].tolist())) for value in sorted(present - {IGNORED})]
    if IGNORED in present:
        entries.append(('ignored', (60, 60, 60)))
    sheet = _lay_out(cells, ['image', 'truth', 'prediction'], columns, title)
    _save(_add_legend(sheet, entries), out_png)


def _overlay(image: np.ndarray, mask: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Blend the colours of a mask, shape (height, width), over the picture and draw the borders between classes.

    The picture is greyed first: its own colours would mix with those of the classes into hues of no meaning.
    """
    grey = image.mean(axis=2, keepdims=True)
    share = np.where(mask == IGNORED, 0.8, 0.6)[..., None]
    blended = grey * (1 - share) + table[mask] * share
    border = np.zeros(mask.shape, bool)
    border[1:] |= mask[1:] != mask[:-1]
    border[:, 1:] |= mask[:, 1:] != mask[:, :-1]
    blended[border] = 255
    return blended.round().astype(np.uint8)


def _add_legend(sheet: Image.Image, entries: Sequence[tuple[str, Colour]]) -> Image.Image:
    """Put a line or more of colour swatches with names under a sheet."""
    placed: list[tuple[int, int, str, Font, Colour]] = []
    x, y = _GAP, 0
    for entry, colour in entries:
        name, font = drawable(entry, _font(12))
        width = 18 + int(font.getlength(name)) + 16
        if x + width > sheet.width and x > _GAP:
            x, y = _GAP, y + _LINE
        placed.append((x, y, name, font, colour))
        x += width
    canvas = Image.new('RGB', (sheet.width, sheet.height + y + _LINE + _GAP), _PAPER)
    canvas.paste(sheet, (0, 0))
    draw = ImageDraw.Draw(canvas)
    for left, down, name, font, colour in placed:
        top = sheet.height + down + 3
        draw.rectangle((left, top, left + 12, top + 12), fill=colour, outline=_FAINT)
        draw.text((left + 18, top + 6), name, fill=_INK, font=font, anchor='lm')
    return canvas


# --- classification ---------------------------------------------------------------------------------------------------


def classification_sheet(
    images: Sequence[np.ndarray],
    true_labels: Sequence[int],
    pred_labels: Sequence[int],
    scores: Sequence[float],
    classes: Sequence[str],
    out_png: str | Path,
    *,
    columns: int = 6,
    tile: int = 160,
    title: str = '',
) -> None:
    """Write a grid of pictures with the predicted class under each; mistakes are framed red and name the truth.

    Args:
        images: Pictures.
        true_labels: True class index of each.
        pred_labels: Predicted class index of each.
        scores: Confidence of each prediction, 0 to 1.
        classes: Name of each class index.
        out_png: File to write; its folder is made when absent.
        columns: Pictures side by side.
        tile: Side of one picture's square on the sheet in pixels.
        title: Line above everything; none where empty.

    Raises:
        ValueError: Lengths differ, an image is not RGB uint8, or a label has no class.
    """
    _check_pictures(images, true_labels=true_labels, pred_labels=pred_labels, scores=scores)
    _check_labels((*true_labels, *pred_labels), classes)
    frame = 4
    cells = []
    for image, truth, predicted, score in zip(images, true_labels, pred_labels, scores, strict=True):
        colour = _RIGHT if truth == predicted else _WRONG
        cell = Image.new('RGB', (tile, tile + 2 * _LINE), _PAPER)
        draw = ImageDraw.Draw(cell)
        draw.rectangle((0, 0, tile - 1, tile - 1), fill=colour)
        draw.rectangle((frame, frame, tile - 1 - frame, tile - 1 - frame), fill=(235, 235, 235))
        picture, _ = _to_tile(image, tile - 2 * frame, square=True)
        cell.paste(picture, ((tile - picture.width) // 2, (tile - picture.height) // 2))
        _draw_fitted(draw, (tile / 2, tile + _LINE * 0.5), f'{classes[predicted]} {score:.2f}', colour, 12, tile)
        if truth != predicted:
            _draw_fitted(draw, (tile / 2, tile + _LINE * 1.35), f'truth: {classes[truth]}', _INK, 11, tile)
        cells.append([cell])
    _save(_lay_out(cells, [], columns, title), out_png)


# --- the truth alone --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """A place on a sheet.

    Attributes:
        pictures: Pictures side by side.
        captions: A line under each of them.
        fault: Whether something is wrong with what it shows; the captions are red then.
    """

    pictures: tuple[Image.Image, ...]
    captions: tuple[str, ...]
    fault: bool = False


def boxes_picture(
    image: np.ndarray,
    boxes: Boxes,
    outlines: Sequence[Sequence[Sequence[float]]],
    classes: Sequence[str],
    colours: Sequence[Colour],
    *,
    tile: int = 320,
) -> Image.Image:
    """Return a picture with its true boxes and the outlines of what is in them.

    Args:
        image: The picture.
        boxes: Its boxes.
        outlines: Polygons of each box, x and y in turn, in pixels of the picture; none where it has no outline.
        classes: Name of each label.
        colours: Colour of each label.
        tile: Width of the picture on the sheet in pixels.
    """
    picture, scale = _to_tile(image, tile)
    filled = picture.copy()
    draw = ImageDraw.Draw(filled)
    for label, polygons in zip(boxes.labels, outlines, strict=True):
        for points in polygons:
            draw.polygon([scale * value for value in points], fill=colours[label])
    blended = Image.blend(picture, filled, _FILLED)
    return _on_tile(blended, scale, boxes, classes, colours, len(boxes.labels) > _CROWDED)


def mask_pictures(
    image: np.ndarray, mask: np.ndarray, colours: Sequence[Colour], *, tile: int = 320
) -> tuple[Image.Image, Image.Image]:
    """Return a picture, and the same with its mask laid over it.

    Args:
        image: The picture.
        mask: Label of each pixel, (height, width), uint8; 255 is ignored and darkened.
        colours: Colour of each label up to the largest.
        tile: Width of each picture on the sheet in pixels.
    """
    table = np.zeros((256, 3), np.uint8)
    table[:IGNORED] = np.asarray(colours, np.uint8).reshape(-1, 3)[:IGNORED]
    picture, _ = _to_tile(image, tile)
    small = Image.fromarray(mask).resize(picture.size, Image.Resampling.NEAREST)
    return picture, Image.fromarray(_overlay(np.asarray(picture), np.asarray(small), table))


def square_picture(image: np.ndarray, *, tile: int = 160) -> Image.Image:
    """Return a square with a picture scaled into it."""
    picture, _ = _to_tile(image, tile, square=True)
    square = Image.new('RGB', (tile, tile), _PAPER)
    square.paste(picture, ((tile - picture.width) // 2, (tile - picture.height) // 2))
    return square


def truth_sheet(
    cells: Sequence[Cell],
    *,
    columns: int,
    headings: Sequence[str] = (),
    title: str = '',
    legend: Sequence[tuple[str, Colour]] = (),
) -> Image.Image:
    """Return a sheet of pictures with a line of text under each.

    Args:
        cells: The pictures.
        columns: Cells side by side.
        headings: Line above each picture of a cell; none where empty.
        title: Line above everything; none where empty.
        legend: Names and their colours, below everything.
    """
    captioned = [
        [_captioned(*part, cell.fault) for part in zip(cell.pictures, cell.captions, strict=True)] for cell in cells
    ]
    sheet = _lay_out(captioned, headings, columns, title)
    return _add_legend(sheet, legend) if legend else sheet


def _captioned(picture: Image.Image, caption: str, fault: bool) -> Image.Image:
    canvas = Image.new('RGB', (picture.width, picture.height + _LINE), _PAPER)
    canvas.paste(picture, (0, 0))
    centre = (canvas.width / 2, picture.height + _LINE / 2)
    _draw_fitted(ImageDraw.Draw(canvas), centre, caption, _WRONG if fault else _INK, 11, canvas.width)
    return canvas


# --- common parts -----------------------------------------------------------------------------------------------------


def _check_pictures(images: Sequence[np.ndarray], **others: Sequence) -> None:
    if not images:
        raise ValueError('a sheet needs at least one image')
    for name, values in others.items():
        if len(values) != len(images):
            raise ValueError(f'{len(images)} images but {len(values)} {name}')
    for index, image in enumerate(images):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(
                f'image {index} must be RGB uint8 of shape (height, width, 3), got {image.dtype} {image.shape}'
            )


def _check_labels(labels: Iterable[int], classes: Sequence[str]) -> None:
    for label in labels:
        if not 0 <= label < len(classes):
            raise ValueError(f'label {label} has no class: there are {len(classes)}')


def _to_tile(image: np.ndarray, tile: int, square: bool = False) -> tuple[Image.Image, float]:
    """Scale a picture to the width of a tile, or to fit into the tile's square; return the factor too."""
    height, width = image.shape[:2]
    # A picture far taller than wide would otherwise make a row of mostly paper.
    scale = tile / max(width, height) if square or height > 1.5 * width else tile / width
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return Image.fromarray(image).resize(size, Image.Resampling.BICUBIC), scale


def _lay_out(cells: Sequence[Sequence[Image.Image]], headings: Sequence[str], columns: int, title: str) -> Image.Image:
    """Put cells of pictures, each with the same headings, into a grid under an optional title."""
    if columns < 1:
        raise ValueError(f'columns must be at least 1, got {columns}')
    columns = min(columns, len(cells))
    part_width = max(part.width for cell in cells for part in cell)
    cell_width = len(cells[0]) * (part_width + 2) - 2
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    heights = [max(part.height for cell in row for part in cell) for row in rows]
    top = _GAP + (_LINE + 6 if title else 0) + (_LINE if headings else 0)
    width = _GAP + columns * (cell_width + _GAP)
    sheet = Image.new('RGB', (width, top + sum(heights) + _GAP * len(rows)), _PAPER)
    draw = ImageDraw.Draw(sheet)
    if title:
        _draw_fitted(draw, (width / 2, _GAP + _LINE / 2), title, _INK, 15, width - 2 * _GAP, bold=True)
    for column in range(columns):
        for part, heading in enumerate(headings):
            centre = _GAP + column * (cell_width + _GAP) + part * (part_width + 2) + part_width / 2
            _draw_fitted(draw, (centre, top - _LINE / 2 - 2), heading, _FAINT, 12, part_width)
    for row, height in zip(rows, heights, strict=True):
        for column, cell in enumerate(row):
            for part, picture in enumerate(cell):
                left = _GAP + column * (cell_width + _GAP) + part * (part_width + 2)
                sheet.paste(picture, (left + (part_width - picture.width) // 2, top))
        top += height + _GAP
    return sheet


def _draw_fitted(
    draw: ImageDraw.ImageDraw,
    centre: tuple[float, float],
    text: str,
    colour: Colour,
    size: int,
    width: float,
    bold: bool = False,
) -> None:
    """Draw a line of text around a point, cut with an ellipsis where it is wider than the place."""
    text, font = drawable(text, _font(size, bold))
    shown = text
    while shown and draw.textlength(shown, font=font) > width:
        text = text[:-1]
        shown = f'{text}…' if text else ''
    draw.text(centre, shown, fill=colour, font=font, anchor='mm')


@lru_cache
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Return the font that matplotlib carries, so that a machine without fonts draws the same sheet."""
    name = 'DejaVuSans-Bold.ttf' if bold else 'DejaVuSans.ttf'
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / 'fonts' / 'ttf' / name), size)


def _save(sheet: Image.Image, out_png: str | Path) -> None:
    out_png = Path(out_png)
    out_png.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(out_png, optimize=True)
