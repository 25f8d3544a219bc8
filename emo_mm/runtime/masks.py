"""The pixels of objects: from what a network gives for each object to masks of the photograph, in NumPy."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np

_CHUNK = 2**21  # values of a layer over all objects that are computed at once


class Masks:
    """The pixels of each object in a photograph.

    Only a rectangle around each object is kept: a hundred whole masks of a large photograph would take a gigabyte.

    Args:
        parts: The rectangles, (rows, columns) of bool each.
        corners: (K, 2) integers; left and top of each in the photograph.
        size: Width and height of the photograph.
    """

    def __init__(self, parts: Sequence[np.ndarray], corners: np.ndarray, size: tuple[int, int]) -> None:
        self.parts = tuple(parts)
        self.corners = np.asarray(corners, np.int64).reshape(-1, 2)
        self.size = size

    def __len__(self) -> int:
        return len(self.parts)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...

    @overload
    def __getitem__(self, index: slice | Sequence[int] | np.ndarray) -> Masks: ...

    def __getitem__(self, index: int | slice | Sequence[int] | np.ndarray) -> np.ndarray | Masks:
        """Return the mask of an object, (H, W) of bool; or some of the objects, as an array of boxes gives them."""
        chosen = np.arange(len(self))[index]
        if chosen.ndim:
            return Masks([self.parts[i] for i in chosen], self.corners[chosen], self.size)
        mask = np.zeros(self.size[::-1], bool)
        mask[self.place(int(chosen))] = self.parts[chosen]
        return mask

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[index] for index in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return all masks, (K, H, W) of bool: ``np.asarray(masks)``."""
        if copy is False:
            raise ValueError('whole masks are always made new: there is nothing that could be shared')
        whole = np.zeros((len(self), *self.size[::-1]), bool)
        for index, part in enumerate(self.parts):
            whole[index][self.place(index)] = part
        return whole if dtype is None else whole.astype(dtype)

    def place(self, index: int) -> tuple[slice, slice]:
        """Return the rows and the columns of the photograph where the rectangle of an object is."""
        (left, top), (rows, columns) = self.corners[index].tolist(), self.parts[index].shape
        return slice(top, top + rows), slice(left, left + columns)

    @property
    def areas(self) -> np.ndarray:
        """Pixels of each object, (K,)."""
        return np.array([int(part.sum()) for part in self.parts], np.int64)

    def numbers(self) -> np.ndarray:
        """Return the number of the object at each pixel: 0 for none, and from 1 in their order.

        Where objects overlap the first is seen, which scores best.

        Returns:
            (H, W), uint8, or uint16 beyond 255 objects; objects beyond 65,535 are left out.
        """
        numbers = np.zeros(self.size[::-1], np.uint8 if len(self) < 256 else np.uint16)
        for index in reversed(range(min(len(self), 65535))):
            numbers[self.place(index)][self.parts[index]] = index + 1
        return numbers

    def rle(self, index: int) -> dict[str, Any]:
        """Return the mask of an object as COCO's compressed RLE: ``size`` (height, width) and ``counts``, a text."""
        (width, height), (left, top) = self.size, self.corners[index]
        # column by column, as COCO counts; the pixels above and below the rectangle are not of the object
        column, row = np.nonzero(np.diff(np.pad(self.parts[index].T, ((0, 0), (1, 1))), axis=1))
        changes = (column + left) * height + row + top
        # an object that leaves a column at the bottom and is at the top of the next goes on
        goes_on = np.flatnonzero(changes[1:] == changes[:-1])
        changes = np.delete(changes, np.concatenate([goes_on, goes_on + 1]))
        changes = changes[changes < width * height]
        runs = np.diff(changes, prepend=0, append=width * height)
        return {'size': [height, width], 'counts': compressed(runs.tolist())}


def compressed(runs: Sequence[int]) -> str:
    """Return the runs of an RLE as COCO's text: five bits a letter, and from the third run on differences."""
    letters = []
    for index, run in enumerate(runs):
        value = run - runs[index - 2] if index > 2 else run
        more = True
        while more:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            letters.append(chr((bits | 32 if more else bits) + 48))
    return ''.join(letters)


def logits_of(kernels: np.ndarray, prototypes: np.ndarray, channels: int) -> np.ndarray:
    """Run the convolutions of 1x1 that a network predicted for each object.

    Args:
        kernels: (K, P); for each object the weights of all layers, then their biases. The first layer takes the place
            of a cell (its column and row) and the prototypes there.
        prototypes: (M, h, w).
        channels: Channels between the layers.

    Returns:
        (K, h, w).
    """
    count, height, width = prototypes.shape
    places = np.mgrid[:height, :width][::-1]  # 2,h,w: column, then row
    cells = np.concatenate([places.astype(np.float32), prototypes]).reshape(count + 2, -1)  # M+2,h·w
    chunk = max(1, _CHUNK // (channels * height * width))
    found = [_convolved(kernels[i : i + chunk], cells, channels) for i in range(0, len(kernels), chunk)]
    return np.concatenate(found).reshape(-1, height, width) if found else np.zeros((0, height, width), np.float32)


def _convolved(kernels: np.ndarray, cells: np.ndarray, channels: int) -> np.ndarray:
    """Return the answers of the convolutions of some objects, (k, h * w), for cells (M + 2, h * w)."""
    shapes = layer_shapes(kernels.shape[1], len(cells), channels)
    sizes = [rows * columns for rows, columns in shapes] + [rows for rows, _ in shapes]
    pieces = np.split(kernels, np.cumsum(sizes)[:-1], axis=1)
    values = cells[None]
    for layer, (rows, columns) in enumerate(shapes):
        weights = pieces[layer].reshape(-1, rows, columns)  # k,rows·columns -> k,rows,columns
        values = weights @ values + pieces[len(shapes) + layer][..., None]  # k,rows,h·w
        if layer < len(shapes) - 1:
            np.maximum(values, 0, out=values)
    return values[:, 0]


def layer_shapes(parameters: int, inputs: int, channels: int) -> list[tuple[int, int]]:
    """Return outputs and inputs of each layer of the convolutions of an object.

    Raises:
        ValueError: If no number of layers has so many parameters.
    """
    rest = parameters - channels * (inputs + 1) - (channels + 1)
    inner, odd = divmod(rest, channels * (channels + 1))
    if odd or inner < 0:
        raise ValueError(f'{parameters} parameters are not those of layers of {channels} channels over {inputs} inputs')
    return [(channels, inputs), *[(channels, channels)] * inner, (1, channels)]


def over_input(
    logits: np.ndarray, columns: np.ndarray, rows: np.ndarray, threshold: float
) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the pixels of objects whose logits cover the whole input.

    Args:
        logits: (K, h, w).
        columns: (W, w), what interpolates them to the width of the photograph.
        rows: (H, h), likewise to its height.
        threshold: Probability above which a pixel is of the object.

    Returns:
        What :class:`Masks` takes: rectangles, and their corners (K, 2).
    """
    least = math.log(threshold / (1 - threshold))
    parts, corners = [], np.zeros((len(logits), 2), np.int64)
    for index, low in enumerate(logits):
        # interpolated values are nowhere above all of their neighbours: the rest of the photograph is not of the object
        above = low > least
        across, down = _reached(columns, above.any(0)), _reached(rows, above.any(1))
        parts.append(rows[down] @ low @ columns[across].T > least)  # (n,h) @ (h,w) @ (w,m)
        corners[index] = across.start, down.start
    return parts, corners


def _reached(matrix: np.ndarray, cells: np.ndarray) -> slice:
    """Return the lines of a matrix (new, old) between the first and the last that some of the old cells reach."""
    reached = np.flatnonzero(matrix[:, cells].any(1))
    return slice(int(reached[0]), int(reached[-1]) + 1) if reached.size else slice(0, 0)


def over_boxes(
    logits: np.ndarray, boxes: np.ndarray, size: tuple[int, int], threshold: float
) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the pixels of objects whose logits cover their boxes, interpolated as mmdet does.

    Args:
        logits: (K, m, m).
        boxes: (K, 4), in pixels of the photograph.
        size: Width and height of the photograph.
        threshold: Least probability of a pixel that is of the object.

    Returns:
        What :class:`Masks` takes: rectangles, and their corners (K, 2).
    """
    parts, corners = [], np.zeros((len(logits), 2), np.int64)
    for index, (low, box) in enumerate(zip(logits, boxes, strict=True)):
        # clipped, as exp of more than 88 is no float32
        probabilities = 1 / (1 + np.exp(-low.astype(np.float32).clip(-80, 80)))
        left, columns = _across(box[0], box[2], size[0], low.shape[1])
        top, rows = _across(box[1], box[3], size[1], low.shape[0])
        parts.append(rows @ probabilities @ columns.T >= threshold)  # (n,m) @ (m,m) @ (m,n)
        corners[index] = left, top
    return parts, corners


def _across(start: float, end: float, length: int, cells: int) -> tuple[int, np.ndarray]:
    """Return the first pixel that a side of a box covers, and what interpolates its cells to these pixels, (n, cells).

    Beyond the outer cells the values fall to 0 within one cell.
    """
    first, last = max(0, int(np.floor(start))), min(length, int(np.ceil(end)))
    pixels = np.arange(first, max(first, last)) + 0.5
    place = (pixels - start) / max(end - start, 1e-6) * cells - 0.5
    low = np.floor(place).astype(np.intp)
    weight = (place - low).astype(np.float32)
    matrix = np.zeros((len(pixels), cells + 2), np.float32)  # a cell of zeros at either end
    lines = np.arange(len(pixels))
    matrix[lines, (low + 1).clip(0, cells + 1)] += 1 - weight
    matrix[lines, (low + 2).clip(0, cells + 1)] += weight
    return first, matrix[:, 1:-1]
