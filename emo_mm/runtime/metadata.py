"""What a deployed file says about itself: all that prediction needs beside the graph.

The description travels as one JSON text inside the file: under the metadata key :data:`KEY` in ONNX, in the runtime
information of OpenVINO, and in a sidecar ``<file>.json`` where a format has no room for it. It is read from files of
unknown origin, so everything is checked: unknown, missing and mistyped keys and sizes out of reason are refused.
"""

from __future__ import annotations

import json
import math
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from emo_mm.errors import UserError, printable
from emo_mm.tasks import TASKS, TaskName

KEY = 'emo_mm'
FORMAT_VERSION = 1

MAX_SIDE = 16384  # pixels of an input's side
MAX_BATCH = 4096
MAX_PIXELS = 2**28  # of one input: batch x height x width; 3 GB as float32
MAX_CLASSES = 100_000
MAX_BOXES = 10_000_000  # anchors, or boxes kept
MAX_TEXT = 16 * 2**20  # characters of the JSON

# Names of the outputs by their meaning, and the rank of the first; what they hold, OutputSpec tells.
OUTPUT_NAMES: dict[str, tuple[str, ...]] = {
    'boxes': ('boxes', 'scores'),
    'detections': ('detections', 'labels'),
    'instances': ('boxes', 'scores', 'kernels', 'prototypes'),
    'masks': ('detections', 'labels', 'masks'),
    'roi_masks': ('detections', 'labels', 'masks'),
    'labels': ('labels',),
    'logits': ('logits',),
    'probabilities': ('probabilities',),
}
OUTPUT_RANKS = {
    'boxes': 3,
    'detections': 3,
    'instances': 3,
    'masks': 3,
    'roi_masks': 3,
    'labels': 3,
    'logits': 4,
    'probabilities': 2,
}
BY_ANCHOR = ('boxes', 'instances')  # kinds whose boxes are still to be selected


@dataclass(frozen=True)
class InputSpec:
    """The one input of the graph: a batch of RGB images.

    Attributes:
        name: Name of the input.
        dtype: Type of its values. ``uint8`` takes pixels; ``float32`` takes pixels of 0 to 255 if ``normalized_inside``
            and normalised values otherwise.
        layout: ``NCHW`` or ``NHWC``.
        batch: Images at once; None if any number.
        height: Pixels; None if any.
        width: Pixels; None if any.
        normalized_inside: Whether the graph subtracts the mean and divides by the standard deviation.
    """

    name: str
    dtype: Literal['uint8', 'float32']
    layout: Literal['NCHW', 'NHWC']
    batch: int | None
    height: int | None
    width: int | None
    normalized_inside: bool

    def __post_init__(self) -> None:
        _check(bool(self.name), 'input.name', self.name, 'not empty')
        for key, limit in (('batch', MAX_BATCH), ('height', MAX_SIDE), ('width', MAX_SIDE)):
            value = getattr(self, key)
            _check(value is None or 1 <= value <= limit, f'input.{key}', value, f'1 to {limit}, or null')
        pixels = (self.batch or 1) * (self.height or 1) * (self.width or 1)
        _check(pixels <= MAX_PIXELS, 'input.batch x height x width', pixels, f'at most {MAX_PIXELS}')
        _check(self.dtype == 'float32' or self.normalized_inside, 'input.normalized_inside', False, 'true with uint8')


@dataclass(frozen=True)
class Preprocessing:
    """How a photograph becomes the input, in this order: resize, crop, normalise, pad.

    Attributes:
        resize: ``stretch`` to exactly ``scale``; ``keep_ratio`` as large as possible with the longer side at most the
            larger number of ``scale`` and the shorter side at most the smaller; ``fit`` as large as possible within
            width and height of ``scale``; ``short_edge`` so that the shorter side is ``scale[0]`` (= ``scale[1]``);
            ``none``.
        scale: Width and height in pixels; (0, 0) with ``none``.
        backend: Library whose resizing the model was tested with: ``cv2`` or ``pillow``.
        interpolation: Its mode.
        crop: Width and height of a crop from the centre; None without. Smaller images stay as they are.
        pad_divisor: Width and height are padded, right and below, to multiples of it.
        pad_size: Width and height to pad to, right and below; None without.
        pad_value: What is padded with, as a normalised value (0 is the mean).
        mean: Of the pixel values 0 to 255; red, green, blue.
        std: Likewise.
    """

    resize: Literal['stretch', 'keep_ratio', 'fit', 'short_edge', 'none']
    scale: tuple[int, int]
    backend: Literal['cv2', 'pillow']
    interpolation: Literal['nearest', 'bilinear', 'bicubic', 'area', 'lanczos']
    crop: tuple[int, int] | None
    pad_divisor: int
    pad_size: tuple[int, int] | None
    pad_value: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        least = 0 if self.resize == 'none' else 1
        sizes = [('scale', self.scale, least), ('crop', self.crop, 1), ('pad_size', self.pad_size, 1)]
        for key, size, low in sizes:
            for side in size or ():
                _check(low <= side <= MAX_SIDE, f'preprocessing.{key}', side, f'{low} to {MAX_SIDE}')
        if self.resize == 'short_edge':
            _check(self.scale[0] == self.scale[1], 'preprocessing.scale', self.scale, 'twice the same with short_edge')
        _check(1 <= self.pad_divisor <= 1024, 'preprocessing.pad_divisor', self.pad_divisor, '1 to 1024')
        for key, values in (('pad_value', (self.pad_value,)), ('mean', self.mean), ('std', self.std)):
            for value in values:
                _check(math.isfinite(value) and abs(value) <= 1e6, f'preprocessing.{key}', value, 'a finite number')
        _check(min(self.std) > 1e-6, 'preprocessing.std', self.std, 'above 0')


@dataclass(frozen=True)
class OutputSpec:
    """What the graph gives; N is the batch.

    Attributes:
        kind: The meaning, which fixes what ``names`` are, in this order:

            - ``boxes``: boxes (N, A, 4) as left, top, right, bottom in pixels of the input; scores (N, A, C) after
              sigmoid or softmax, without a background; where ``levels`` is None and NMS has an ``nms_pre``, the level
              of each anchor (A,), integers from 0, ascending.
            - ``detections``: after NMS: boxes and scores (N, K, 5); labels (N, K) integers, -1 where there is no box.
            - ``instances``: boxes and scores as with ``boxes``; kernels (N, A, P), the weights and then the biases of
              the layers that make a mask of the prototypes (N, M, h, w), which cover the input
              (:func:`emo_mm.runtime.masks.logits_of`); levels as with ``boxes``.
            - ``masks``: as ``detections``, and the logits of the masks over the input (N, K, h, w).
            - ``roi_masks``: as ``detections``, and the logits of the masks over their boxes (N, K, m, m).
            - ``labels``: label map (N, H, W) of the input's size, integers.
            - ``logits``: scores of the classes (N, C, h, w) at any resolution that covers the input.
            - ``probabilities``: (N, C) after softmax.
        names: Names of the outputs.
        levels: Anchors in each level of the pyramid, whose sum is A; None if it depends on the input.
    """

    kind: Literal['boxes', 'detections', 'instances', 'masks', 'roi_masks', 'labels', 'logits', 'probabilities']
    names: tuple[str, ...]
    levels: tuple[int, ...] | None

    def __post_init__(self) -> None:
        usual = len(OUTPUT_NAMES[self.kind])
        counts = (usual, usual + 1) if self.kind in BY_ANCHOR else (usual,)
        fits = len(self.names) in counts and all(self.names)
        _check(fits, 'output.names', self.names, f'{" or ".join(map(str, counts))} names with kind {self.kind}')
        levels = self.levels or ()
        _check(all(n > 0 for n in levels) and sum(levels) <= MAX_BOXES, 'output.levels', levels, 'counts of anchors')


@dataclass(frozen=True)
class MaskSpec:
    """How masks are made of what a graph gives for objects.

    Attributes:
        threshold: Probability from which on a pixel is of the object.
        channels: Channels between the layers that the kernels of ``instances`` are; None with other kinds.
    """

    threshold: float
    channels: int | None

    def __post_init__(self) -> None:
        _check(0 < self.threshold < 1, 'masks.threshold', self.threshold, 'between 0 and 1')
        _check(self.channels is None or 1 <= self.channels <= 1024, 'masks.channels', self.channels, '1 to 1024')


@dataclass(frozen=True)
class NMS:
    """How boxes are selected: score threshold, best of each level, non-maximum suppression, best of the image.

    Attributes:
        score_threshold: Boxes must score higher.
        iou_threshold: A box that overlaps a better one by more is dropped.
        nms_pre: Best scores kept in each level before; None for all.
        max_per_image: Boxes kept at most.
        class_agnostic: Whether boxes of different classes suppress each other.
        min_size: Sides of a box in pixels of the photograph must be longer; -1 for all boxes.
    """

    score_threshold: float
    iou_threshold: float
    nms_pre: int | None
    max_per_image: int
    class_agnostic: bool
    min_size: float

    def __post_init__(self) -> None:
        for key in ('score_threshold', 'iou_threshold'):
            value = getattr(self, key)
            _check(0 <= value <= 1, f'nms.{key}', value, '0 to 1')
        _check(self.nms_pre is None or 1 <= self.nms_pre <= MAX_BOXES, 'nms.nms_pre', self.nms_pre, 'above 0, or null')
        _check(1 <= self.max_per_image <= MAX_BOXES, 'nms.max_per_image', self.max_per_image, f'1 to {MAX_BOXES}')
        _check(math.isfinite(self.min_size), 'nms.min_size', self.min_size, 'a finite number')


@dataclass(frozen=True)
class Metadata:
    """The description of a deployed file.

    Attributes:
        format_version: Version of this description, :data:`FORMAT_VERSION`.
        emo_mm_version: Version of the package that wrote the file.
        model: Name of the config.
        task: ``det``, ``ins``, ``seg`` or ``cls``.
        classes: Names of the classes, in the order of the scores.
        palette: Red, green and blue of each class, 0 to 255; empty if there is none.
        input: The input.
        preprocessing: From photograph to input.
        output: The outputs.
        nms: How to select boxes; for detectors, None for others.
        align_corners: Whether resizing of segmentation logits to the input's size aligns the corners.
        weights_sha256: Hash of the tensors that the graph was made from (``content_sha256``); None if not known.
        display_threshold: Score from which on boxes are best shown, as the training found it; None if not known, and
            in files of before there was one.
        masks: How masks of objects are made; for instance segmenters, None for others.
    """

    format_version: int
    emo_mm_version: str
    model: str
    task: TaskName
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    input: InputSpec
    preprocessing: Preprocessing
    output: OutputSpec
    nms: NMS | None
    align_corners: bool
    weights_sha256: str | None
    display_threshold: float | None = None
    masks: MaskSpec | None = None

    def __post_init__(self) -> None:
        version = self.format_version
        _check(version == FORMAT_VERSION, 'format_version', version, f'{FORMAT_VERSION}: update emo_mm')
        _check(1 <= len(self.classes) <= MAX_CLASSES, 'classes', len(self.classes), f'1 to {MAX_CLASSES} names')
        _check(len(self.palette) in (0, len(self.classes)), 'palette', len(self.palette), 'a colour for each class')
        _check(all(0 <= v <= 255 for c in self.palette for v in c), 'palette', 'a colour', 'made of 0 to 255')
        task = TASKS[self.task]
        kinds = task.output_kinds
        _check(self.output.kind in kinds, 'output.kind', self.output.kind, f'{" or ".join(kinds)} with {self.task}')
        _check((self.nms is not None) == task.finds_boxes, 'nms', self.nms, 'given for detectors only')
        shown = self.display_threshold
        _check(shown is None or 0 <= shown <= 1, 'display_threshold', shown, '0 to 1, or null')
        _check(
            (self.masks is not None) == task.finds_outlines, 'masks', self.masks, 'given for instance segmenters only'
        )
        kernels = self.masks is not None and self.masks.channels is not None
        _check(kernels == (self.output.kind == 'instances'), 'masks.channels', kernels, 'given with kernels only')
        if self.output.kind in BY_ANCHOR:
            by_level = self.nms is not None and self.nms.nms_pre is not None and self.output.levels is None
            usual = len(OUTPUT_NAMES[self.output.kind])
            expected = f'{usual + by_level} names'
            _check(len(self.output.names) == usual + by_level, 'output.names', self.output.names, expected)

    def to_json(self) -> str:
        """Return the description as one line of JSON."""
        return json.dumps(asdict(self), separators=(',', ':'))

    @classmethod
    def from_json(cls, text: str, source: str = 'metadata') -> Metadata:
        """Return the description in a JSON text.

        Args:
            text: What :meth:`to_json` gave.
            source: The file that it comes from, for messages.

        Raises:
            UserError: If it is no such text, or holds something out of reason.
        """
        try:
            if len(text) > MAX_TEXT:
                raise ValueError(f'it has {len(text)} characters; at most {MAX_TEXT} are read')
            data = json.loads(text)
            version = data.get('format_version') if isinstance(data, dict) else None
            # first: other versions have other keys
            _check(version == FORMAT_VERSION, 'format_version', version, f'{FORMAT_VERSION}: update emo_mm')
            return _parse(cls, data, '')
        except (ValueError, OverflowError, RecursionError) as error:
            raise UserError(f'{source}: its description of the model cannot be used: {error}') from None


def _check(fine: bool, key: str, value: Any, expected: str) -> None:
    if not fine:
        raise ValueError(f'{key} is {str(value)[:80]}; it must be {expected}')


def _parse(kind: Any, data: Any, where: str) -> Any:
    """Return parsed JSON as a value of a type.

    Args:
        kind: A type that an annotation of the classes above names.
        data: What JSON holds at a place.
        where: The place, in dotted keys; empty for the whole.

    Raises:
        ValueError: If it is not of that type.
    """
    parse = _parse_object if is_dataclass(kind) else _PARSERS.get(get_origin(kind), _parse_plain)
    return parse(kind, data, where)


def _parse_object(kind: Any, data: Any, where: str) -> Any:
    if not isinstance(data, Mapping):
        raise ValueError(f'{where or "it"} is {_name(data)}; it must be an object')
    known = {field.name for field in fields(kind)}
    required = {field.name for field in fields(kind) if field.default is MISSING}
    for what, keys in (('no', required - set(data)), ('an unknown', set(data) - known)):
        if keys:
            raise ValueError(f'{where or "it"} has {what} key {", ".join(sorted(map(str, keys)))[:200]}')
    hints = get_type_hints(kind)
    return kind(**{key: _parse(hints[key], value, f'{where}.{key}'.strip('.')) for key, value in data.items()})


def _parse_optional(kind: Any, data: Any, where: str) -> Any:
    return None if data is None else _parse(get_args(kind)[0], data, where)  # X | None is the only union


def _parse_choice(kind: Any, data: Any, where: str) -> str:
    options = get_args(kind)
    if not isinstance(data, str) or data not in options:
        raise ValueError(f'{where} is {str(data)[:80]!r}; it must be one of {", ".join(options)}')
    return data


def _parse_tuple(kind: Any, data: Any, where: str) -> tuple:
    if not isinstance(data, list):
        raise ValueError(f'{where} is {_name(data)}; it must be a list')
    if len(data) > MAX_CLASSES:
        raise ValueError(f'{where} has {len(data)} items; it must have at most {MAX_CLASSES}')
    kinds = get_args(kind)
    if kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(data)
    if len(data) != len(kinds):
        raise ValueError(f'{where} has {len(data)} items; it must have {len(kinds)}')
    return tuple(_parse(kind, item, where) for kind, item in zip(kinds, data, strict=True))


def _parse_plain(kind: Any, data: Any, where: str) -> Any:
    # true and false are integers to Python; 1 is a number where 1.0 is meant
    allowed = (int, float) if kind is float else (kind,)
    if not isinstance(data, allowed) or (isinstance(data, bool) and kind is not bool):
        raise ValueError(f'{where} is {_name(data)}; it must be of type {kind.__name__}')
    if isinstance(data, str) and printable(data) != data.replace('\n', ''):
        raise ValueError(f'{where} has control characters: {data[:80]!r}')
    return float(data) if kind is float else data


# By the origin of an annotation.
_PARSERS: Mapping[Any, Callable[[Any, Any, str], Any]] = {
    Union: _parse_optional,
    types.UnionType: _parse_optional,
    Literal: _parse_choice,
    tuple: _parse_tuple,
}


def _name(data: Any) -> str:
    return 'null' if data is None else f'of type {type(data).__name__}'
