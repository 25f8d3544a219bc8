"""Painting of one demonstration picture: shapes with colour, texture and shading over a textured background.

Everything is drawn from the random generator that the caller gives. Geometry never depends on pixel values, so a
last-bit difference between two builds of OpenCV can change a pixel but not a box.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

CLASSES = ('circle', 'square', 'triangle', 'star')

# Masks are drawn this many times larger and averaged down, which gives each pixel its covered fraction.
_SUPERSAMPLING = 4
_MARGIN = 2  # pixels kept free between a shape and the picture's border
_MAX_HIDDEN = 0.1  # largest fraction of a shape that those painted after it may hide
_PLACEMENT_TRIES = 12
_MAX_TURN = 0.5  # radians


@dataclass(frozen=True)
class Scene:
    """One painted picture and its truth.

    Attributes:
        image: RGB, shape (size, size, 3), uint8.
        labels: Index into `CLASSES` of each shape, in painting order.
        masks: Visible pixels of each shape, shape (len(labels), size, size), bool; no two masks share a pixel.
    """

    image: np.ndarray
    labels: tuple[int, ...]
    masks: np.ndarray


def paint_scene(
    rng: np.random.Generator, size: int, labels: Sequence[int], side_range: tuple[float, float] = (0.22, 0.55)
) -> Scene:
    """Paint shapes over a background.

    A shape for which no free place is found after a few tries is left out, so the scene may hold fewer shapes than
    were asked for, but always the first.

    Args:
        rng: Source of every random choice.
        size: Side of the square picture in pixels.
        labels: Index into `CLASSES` of each shape to place; later ones lie on top.
        side_range: Smallest and largest longer side of a shape, as fractions of `size`.

    Returns:
        The picture with the labels and visible masks of the shapes that were placed.
    """
    image = _background(rng, size)
    placed: list[int] = []
    masks: list[np.ndarray] = []
    full_areas: list[int] = []
    for label in labels:
        for _ in range(_PLACEMENT_TRIES):
            coverage = _shape_coverage(rng, size, label, size * rng.uniform(*side_range))
            mask = coverage >= 0.5
            if all(
                (seen & ~mask).sum() >= (1 - _MAX_HIDDEN) * area for seen, area in zip(masks, full_areas, strict=True)
            ):
                masks = [seen & ~mask for seen in masks]
                masks.append(mask)
                full_areas.append(int(mask.sum()))
                placed.append(label)
                image = _paint_shape(rng, image, coverage, mask)
                break
    return Scene(_camera(rng, image), tuple(placed), np.stack(masks))


# --- geometry ---------------------------------------------------------------------------------------------------------


def _outlines(rng: np.random.Generator, label: int) -> list[np.ndarray]:
    """Contours of a shape around the origin, each of shape (points, 2)."""
    name = CLASSES[label]
    if name == 'square':
        return [np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])]
    if name == 'triangle':
        return [_regular_points(3)]
    if name == 'star':
        points = _regular_points(10)
        points[1::2] *= rng.uniform(0.4, 0.52)
        return [points]
    return [_regular_points(72)]


def _regular_points(count: int) -> np.ndarray:
    """Points evenly spaced on the unit circle, shape (count, 2)."""
    angle = 2 * np.pi * np.arange(count) / count
    return np.stack([np.sin(angle), -np.cos(angle)], axis=1)


def _shape_coverage(rng: np.random.Generator, size: int, label: int, side: float) -> np.ndarray:
    """Covered fraction of each pixel, shape (size, size), for a turned, stretched shape at a random place."""
    angle = rng.uniform(-_MAX_TURN, _MAX_TURN)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    stretch = np.array([1.0, rng.uniform(0.8, 1.0)])
    contours = [points * stretch @ turn.T for points in _outlines(rng, label)]
    low, high = contours[0].min(axis=0), contours[0].max(axis=0)
    scale = side / (high - low).max()
    room = size - 2 * _MARGIN - (high - low) * scale
    offset = _MARGIN + rng.uniform(0, 1, 2) * room - low * scale
    fraction_bits = 4  # fillPoly takes integers; the low bits are the fraction of a pixel
    fixed = [
        np.round((points * scale + offset) * _SUPERSAMPLING * 2**fraction_bits).astype(np.int32) for points in contours
    ]
    canvas = np.zeros((size * _SUPERSAMPLING, size * _SUPERSAMPLING), np.uint8)
    cv2.fillPoly(canvas, fixed, 255, shift=fraction_bits)
    return cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


# --- shapes -----------------------------------------------------------------------------------------------------------


def _paint_shape(rng: np.random.Generator, image: np.ndarray, coverage: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Blend one filled, lit shape with its soft shadow into the picture."""
    size = image.shape[0]
    window = _window(mask, pad=round(0.06 * size))  # all that follows happens near the shape; the rest is left alone
    behind, cover, inside = image[window], coverage[window][..., None], mask[window]

    main = _contrasting_colour(rng, behind[inside].mean(axis=0))
    second = np.clip(main * rng.uniform(0.55, 0.8) + rng.uniform(0, 0.12, 3), 0, 1).astype(np.float32)
    fill = main + (second - main) * _pattern(rng, size)[window][..., None]

    # A lit side, and a rim that darkens towards the edge, make the shape look solid rather than pasted in.
    fill *= (1 + rng.uniform(0.05, 0.3) * (_ramp(rng, size)[window] - 0.5))[..., None]
    depth = cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, 3)
    fill *= (1 - rng.uniform(0.0, 0.35) * np.exp(-depth / (0.012 * size)))[..., None]

    move = np.array([[1, 0, 0], [0, 1, 0]], np.float64)
    move[:, 2] = rng.uniform(-0.02, 0.02, 2) * size
    shadow = cv2.warpAffine(coverage[window], move, inside.shape[::-1])
    shadow = cv2.GaussianBlur(shadow, (0, 0), 0.012 * size)
    behind = behind * (1 - rng.uniform(0.0, 0.5) * shadow)[..., None]

    painted = image.copy()
    painted[window] = behind * (1 - cover) + fill * cover
    return painted


def _window(mask: np.ndarray, pad: int) -> tuple[slice, slice]:
    """Rows and columns of a mask's bounding box, widened by `pad` pixels within the picture."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return (
        slice(max(int(rows[0]) - pad, 0), int(rows[-1]) + pad + 1),
        slice(max(int(columns[0]) - pad, 0), int(columns[-1]) + pad + 1),
    )


def _contrasting_colour(rng: np.random.Generator, behind: np.ndarray) -> np.ndarray:
    """The first of six random colours that stands out from the mean colour behind it, else the farthest of them."""
    candidates = np.stack([_colour(rng, (0.6, 1.0), (0.45, 1.0)) for _ in range(6)])
    distance = np.linalg.norm(_to_lab(candidates) - _to_lab(behind[None].astype(np.float32)), axis=1)
    clear = np.flatnonzero(distance > 60)
    return candidates[clear[0] if clear.size else distance.argmax()]


def _pattern(rng: np.random.Generator, size: int) -> np.ndarray:
    """Share of the second colour, shape (size, size), 0 to 1: plain, gradient, stripes, checks, dots or mottled."""
    kind = rng.integers(6)
    strength = rng.uniform(0.2, 0.5)
    period = size * rng.uniform(0.035, 0.08)
    along, across = _turned_grid(rng, size)
    along, across = along * size / period, across * size / period
    if kind == 0:
        return np.zeros((size, size), np.float32)
    if kind == 1:
        return strength * _ramp(rng, size)
    if kind == 2:
        return strength * _soft_step(np.sin(2 * np.pi * along))
    if kind == 3:
        return strength * _soft_step(np.sin(np.pi * along) * np.sin(np.pi * across) * 2)
    if kind == 4:
        return strength * _soft_step(np.sin(2 * np.pi * along) * np.sin(2 * np.pi * across) * 2 - 0.8)
    return strength * _noise(rng, size, cells=8, octaves=4)


# --- backgrounds ------------------------------------------------------------------------------------------------------


def _background(rng: np.random.Generator, size: int) -> np.ndarray:
    """A lit background, shape (size, size, 3), float32 RGB 0 to 1."""
    paint = _BACKGROUNDS[rng.integers(len(_BACKGROUNDS))]
    image = paint(rng, size)
    light = 1 + rng.uniform(0.1, 0.6) * (_ramp(rng, size) - 0.5)
    squared = np.linspace(-1, 1, size, dtype=np.float32) ** 2
    vignette = 1 - rng.uniform(0.0, 0.25) * (squared[:, None] + squared) / 2  # darker towards the corners
    image = cv2.GaussianBlur(image * (light * vignette)[..., None], (0, 0), rng.uniform(0.004, 0.016) * size)
    # Duller than the shapes and a little out of focus, so that a small network learns them within minutes.
    grey = image.mean(axis=-1, keepdims=True)
    return np.clip(0.15 + 0.7 * (grey + 0.6 * (image - grey)), 0, 1).astype(np.float32)


def _clouds(rng: np.random.Generator, size: int) -> np.ndarray:
    return _colour_ramp(rng, _noise(rng, size, cells=int(rng.integers(2, 6)), octaves=6))


def _defocused(rng: np.random.Generator, size: int) -> np.ndarray:
    """Large patches of different colours, as of a scene far out of focus, under fine grain."""
    colours = np.stack([_colour(rng, (0.05, 0.4), (0.2, 0.85)) for _ in range(16)]).reshape(4, 4, 3)  # (16, 3) -> grid
    patches = cv2.resize(colours, (size, size), interpolation=cv2.INTER_CUBIC)
    return patches * (0.85 + 0.3 * _noise(rng, size, cells=32, octaves=3))[..., None]


def _wood(rng: np.random.Generator, size: int) -> np.ndarray:
    """Grain lines bent by slow noise."""
    along, across = _turned_grid(rng, size)
    bend = _noise(rng, size, cells=3, octaves=3) * rng.uniform(0.1, 0.4)
    grain = 0.5 + 0.5 * np.sin(2 * np.pi * rng.uniform(6, 16) * (across + bend + 0.05 * along))
    return _colour_ramp(rng, 0.65 * grain + 0.35 * _noise(rng, size, cells=24, octaves=3), contrast=0.6)


def _stones(rng: np.random.Generator, size: int) -> np.ndarray:
    """Irregular cells with dark joints: the distance to the nearest of a set of random points."""
    count = int(rng.integers(40, 160))
    points = np.ones((size, size), np.uint8)
    points[rng.integers(0, size, count), rng.integers(0, size, count)] = 0
    distance, cell = cv2.distanceTransformWithLabels(points, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    tone = rng.uniform(0.2, 1.0, count + 1)[cell]
    joint = 1 - distance * np.sqrt(count) / size
    field = cv2.GaussianBlur((0.6 * tone + 0.4 * joint).astype(np.float32), (0, 0), 0.004 * size)
    return _colour_ramp(rng, 0.75 * field + 0.25 * _noise(rng, size, cells=16, octaves=4), contrast=0.7)


def _fabric(rng: np.random.Generator, size: int) -> np.ndarray:
    """Broad stripes one way or both ways, woven through by fine threads."""
    along, across = _turned_grid(rng, size)
    stripes = _soft_step(np.sin(2 * np.pi * rng.uniform(2, 7) * along))
    if rng.random() < 0.5:
        stripes = 0.5 * (stripes + _soft_step(np.sin(2 * np.pi * rng.uniform(2, 7) * across)))
    threads = np.sin(2 * np.pi * 40 * along) * np.sin(2 * np.pi * 40 * across)
    field = 0.6 * stripes + 0.15 * threads + 0.25 * _noise(rng, size, cells=8, octaves=4)
    return _colour_ramp(rng, np.clip(field, 0, 1), contrast=0.6)


def _hills(rng: np.random.Generator, size: int) -> np.ndarray:
    """A hazy sky over three ridges, the nearer the darker and rougher."""
    height = np.linspace(0, 1, size, dtype=np.float32)[:, None]
    top, low = _colour(rng, (0.15, 0.5), (0.5, 0.9)), _colour(rng, (0.0, 0.2), (0.8, 1.0))
    haze = _noise(rng, size, cells=3, octaves=5)[..., None] * 0.15
    image = (top * (1 - height) + low * height)[:, None, :] + haze  # (size, 1, 3) + (size, size, 1)
    ground = _colour(rng, (0.2, 0.6), (0.2, 0.5))
    for number in range(3):
        crest = 0.3 + 0.2 * number + 0.25 * (_noise(rng, size, cells=3, octaves=5)[0] - 0.5)  # (size,)
        texture = 0.7 + 0.6 * _noise(rng, size, cells=12 * (number + 1), octaves=4)
        near = (number + 1) / 3
        ridge = (ground * near + low * (1 - near) * 0.7) * texture[..., None]
        below = np.clip((height - crest) * size / 2, 0, 1)[..., None]  # (size, size, 1): 1 under the crest line
        image = image * (1 - below) + ridge * below
    return image


_BACKGROUNDS: tuple[Callable[[np.random.Generator, int], np.ndarray], ...] = (
    _clouds,
    _defocused,
    _wood,
    _stones,
    _fabric,
    _hills,
)


# --- fields and colours -----------------------------------------------------------------------------------------------


def _noise(rng: np.random.Generator, size: int, cells: int, octaves: int) -> np.ndarray:
    """Smooth noise of several scales, shape (size, size), stretched to 0..1.

    Each octave doubles the number of cells a side and halves the weight.
    """
    total = np.zeros((size, size), np.float32)
    for octave in range(octaves):
        side = min(cells * 2**octave, size)
        grid = rng.random((side, side), dtype=np.float32)
        total += 0.5**octave * cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)
    low, high = total.min(), total.max()
    return (total - low) / (high - low)


def _turned_grid(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Two coordinates at right angles in a random direction, each (size, size), about 0..1 across the picture."""
    angle = rng.uniform(0, 2 * np.pi)
    sine, cosine = np.float32(np.sin(angle)), np.float32(np.cos(angle))
    ticks = np.linspace(0, 1, size, dtype=np.float32)
    rows, columns = ticks[:, None], ticks[None]
    return columns * cosine + rows * sine, rows * cosine - columns * sine


def _ramp(rng: np.random.Generator, size: int) -> np.ndarray:
    """A linear gradient in a random direction, shape (size, size), 0 to 1."""
    along, _ = _turned_grid(rng, size)
    return (along - along.min()) / (along.max() - along.min())


def _soft_step(wave: np.ndarray) -> np.ndarray:
    """0 below zero, 1 above, with an edge of a few pixels instead of a jagged one."""
    return np.clip(0.5 + 3 * wave, 0, 1)


def _colour_ramp(rng: np.random.Generator, field: np.ndarray, contrast: float = 1.0) -> np.ndarray:
    """Colour a field of 0..1, shape (size, size), through three dull colours, dark to light, to (size, size, 3)."""
    stops = np.stack([_colour(rng, (0.05, 0.5), span) for span in ((0.1, 0.4), (0.3, 0.7), (0.6, 0.95))])
    stops = stops.mean(axis=0) + contrast * (stops - stops.mean(axis=0))
    return np.stack([np.interp(field, (0.1, 0.5, 0.9), stops[:, channel]) for channel in range(3)], axis=-1)


def _colour(rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float]) -> np.ndarray:
    """A colour of any hue, shape (3,), float32 RGB 0 to 1."""
    hsv = np.array([[[rng.uniform(0, 360), rng.uniform(*saturation), rng.uniform(*value)]]], np.float32)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0]


def _to_lab(colours: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of RGB colours of shape (n, 3): distances there follow how different colours look."""
    return cv2.cvtColor(colours[None].astype(np.float32), cv2.COLOR_RGB2LAB)[0]


def _camera(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Slight blur and sensor noise, then 8 bits."""
    image = cv2.GaussianBlur(image.astype(np.float32), (0, 0), rng.uniform(0.3, 0.9))
    image = image + rng.uniform(0.0, 0.025) * rng.standard_normal(image.shape, dtype=np.float32)
    return (np.clip(image, 0, 1) * 255).round().astype(np.uint8)
