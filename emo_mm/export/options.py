"""What an export is asked for, and the description of the file that follows from it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from emo_mm.errors import UserError
from emo_mm.runtime.metadata import BY_ANCHOR, MAX_BATCH, MAX_SIDE, OUTPUT_NAMES, Metadata, OutputSpec, Preprocessing
from emo_mm.tasks import TASKS

if TYPE_CHECKING:
    from emo_mm.predict.loading import LoadedModel

AXES = ('batch', 'height', 'width')
PRECISIONS = ('float32', 'half', 'int8')
MIN_SIDE = 32  # the stride of the network


@dataclass(frozen=True)
class ExportOptions:
    """What the command line of ``export`` gives.

    Attributes:
        model: Name or path of a config; or a checkpoint written by emo-mm train, which carries its config.
        weights: A checkpoint of the whole model, for a config.
        format: Format of the file.
        input: Size of the input in pixels, SIDE or HEIGHTxWIDTH; what the config makes of a photograph if not given.
        dynamic: Axes of the input that stay open, with commas between: batch, height, width.
        batch: Images at once, where the axis is not open.
        nms: Select boxes in the graph (``graph``), or leave that to whoever reads its outputs (``none``).
        half: Store the weights in half precision.
        int8: Quantize the network to 8 bits, calibrated by the photographs of ``--calibration`` (experimental).
        uint8: Take RGB pixels, (N, H, W, 3), as the input, and normalise them in the graph.
        logits: Give a segmenter's logits instead of its label map.
        images: Folder of photographs to calibrate int8 by and to check with; random images if not given.
        data_root: Data set to print the metric by, before and after the loss of precision; no metric if not given.
        out: File to write; named after model, size and precision if not given.
        tolerance: Largest error, relative to the largest value; that of the precision if not given.
        threads: Threads of the runtime in the check; all cores if not given.
    """

    model: str
    weights: str | None = None
    format: str = 'onnx'
    input: str | None = None
    dynamic: str | None = None
    batch: int = 1
    nms: Literal['none', 'graph'] = 'none'
    half: bool = False
    int8: bool = False
    uint8: bool = False
    logits: bool = False
    images: str | None = None
    data_root: str | None = None
    out: str | None = None
    tolerance: float | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.half and self.int8:
            raise UserError('--half and --int8: choose one')
        if not 1 <= self.batch <= MAX_BATCH:
            raise UserError(f'--batch {self.batch}: it must be 1 to {MAX_BATCH}')
        if self.tolerance is not None and not (math.isfinite(self.tolerance) and self.tolerance >= 0):
            raise UserError(f'--tolerance {self.tolerance}: it must be a number of at least 0')
        if self.threads is not None and self.threads < 1:
            raise UserError(f'--threads {self.threads}: it must be at least 1')
        unknown = [axis for axis in self.axes if axis not in AXES]
        if unknown:
            raise UserError(f'--dynamic {self.dynamic}: {unknown[0]!r} is none of {", ".join(AXES)}')
        if self.nms == 'graph' and {'height', 'width'} & set(self.axes):
            raise UserError('--nms graph needs a fixed height and width: the best of each level are counted by them')
        _ = self.size

    @property
    def axes(self) -> tuple[str, ...]:
        """The axes of the input that stay open."""
        return tuple(axis.strip() for axis in self.dynamic.split(',')) if self.dynamic else ()

    @property
    def precision(self) -> str:
        """One of ``PRECISIONS``."""
        return 'half' if self.half else 'int8' if self.int8 else 'float32'

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width; None if not given."""
        if self.input is None:
            return None
        match = re.fullmatch(r'(\d{1,6})(?:x(\d{1,6}))?', self.input)
        sides = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not all(MIN_SIDE <= side <= MAX_SIDE for side in sides):
            raise UserError(
                f'--input {self.input}: it must be SIDE or HEIGHTxWIDTH, each {MIN_SIDE} to {MAX_SIDE} pixels'
            )
        return sides


def natural_size(how: Preprocessing) -> tuple[int, int]:
    """Return height and width that a test pipeline gives, or the square of the shorter side where they vary.

    Raises:
        UserError: If it says nothing about sizes.
    """
    width, height = how.crop or how.scale
    if how.resize == 'none' and how.crop is None:
        raise UserError('the test pipeline does not resize: give --input')
    if how.crop is None and how.resize != 'stretch':
        width = height = min(how.scale)
    return height, width


def fitted(how: Preprocessing, size: tuple[int, int], axes: tuple[str, ...]) -> Preprocessing:
    """Return the preprocessing whose results a graph takes.

    Args:
        how: That of the config.
        size: Height and width of the graph.
        axes: Axes that stay open.
    """
    height, width = size
    if how.crop is not None:
        # as much is cut off as by the config
        factor = max(width / how.crop[0], height / how.crop[1])
        scale = tuple(max(1, round(side * factor)) for side in how.scale)
        return replace(how, crop=(width, height), scale=scale)  # type: ignore[arg-type]
    if how.resize == 'stretch':
        return replace(how, scale=(width, height))
    if {'height', 'width'} <= set(axes):
        return how
    return replace(how, resize='fit', scale=(width, height), pad_size=(width, height), pad_divisor=1)


def description(loaded: LoadedModel, options: ExportOptions, levels: tuple[int, ...] | None) -> Metadata:
    """Return what the file will say about itself.

    Args:
        loaded: The model.
        options: The export.
        levels: Anchors of each level at the fixed size of a detector; None for others.

    Raises:
        UserError: If an option does not fit the model.
    """
    from emo_mm.predict.session import network_of, torch_metadata

    whole, network = torch_metadata(loaded), network_of(loaded.cfg, loaded.model)
    size = options.size or natural_size(whole.preprocessing)
    task = TASKS[whole.task]
    if options.nms == 'graph' and network.selected is None:
        raise UserError(f'--nms graph: {loaded.name} finds no boxes')
    if options.logits and 'logits' not in task.output_kinds:
        raise UserError(f'--logits: {loaded.name} is no segmenter')
    open_sides = {'height', 'width'} & set(options.axes)
    if open_sides and network.exported == network.selected:
        raise UserError(
            f'--dynamic {options.dynamic}: {loaded.name} selects boxes in the graph, at a fixed size; give --input'
        )
    batch, height, width = (
        None if axis in options.axes else side for axis, side in zip(AXES, (options.batch, *size), strict=True)
    )
    try:
        spec = replace(
            whole.input,
            dtype='uint8' if options.uint8 else 'float32',
            layout='NHWC' if options.uint8 else 'NCHW',
            batch=batch,
            height=height,
            width=width,
            normalized_inside=options.uint8,
        )
    except ValueError as error:
        raise UserError(f'--batch and --input: {error}') from None
    kind = 'logits' if options.logits else network.selected if options.nms == 'graph' else network.exported
    names = OUTPUT_NAMES[kind]
    if kind not in BY_ANCHOR:
        levels = None
    elif whole.nms is not None and whole.nms.nms_pre is not None and levels is None:
        names += ('levels',)
    output = OutputSpec(kind, names, levels)  # type: ignore[arg-type]
    how = fitted(whole.preprocessing, size, options.axes)
    masks = whole.masks if kind == network.kind or whole.masks is None else replace(whole.masks, channels=None)
    return replace(whole, input=spec, preprocessing=how, output=output, masks=masks)
