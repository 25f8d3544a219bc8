"""Whether a graph gives what its description promises: a wrong description makes wrong results of right outputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from emo_mm.errors import UserError
from emo_mm.runtime.masks import layer_shapes
from emo_mm.runtime.metadata import BY_ANCHOR, OUTPUT_NAMES, Metadata

_SELECTED = ('detections', 'masks', 'roi_masks')


def check_outputs(outputs: Sequence[np.ndarray], count: int, size: tuple[int, int], metadata: Metadata) -> None:
    """Check shapes, types and values of what a graph gave for a batch.

    Args:
        outputs: What it gave, in the order of the description.
        count: Images of the batch.
        size: Width and height of the input.
        metadata: The description.

    Raises:
        UserError: If they are not as :class:`~emo_mm.runtime.metadata.OutputSpec` says, or hold a number that is not
            finite.
    """
    classes = len(metadata.classes)
    first, *others = outputs
    kind = metadata.output.kind
    anchors = None if metadata.output.levels is None else sum(metadata.output.levels)
    # None stands for any number; the last item tells whether there are whole numbers in it
    by_anchor = [((count, anchors, 4), False), ((count, _length(first), classes), False)]
    levels = ((_length(first),), True)
    selected = [((count, None, 5), False), ((count, _length(first)), True)]
    masks = ((count, _length(first), None, None), False)
    expected: dict[str, list[tuple[tuple[int | None, ...], bool]]] = {
        'boxes': [*by_anchor, levels],
        'detections': selected,
        'instances': [
            *by_anchor,
            ((count, _length(first), None), False),
            ((count, None, None, None), False),
            levels,
        ],
        'masks': [*selected, masks],
        'roi_masks': [*selected, masks],
        'labels': [((count, size[1], size[0]), True)],
        'logits': [((count, classes, None, None), False)],
        'probabilities': [((count, classes), False)],
    }
    for name, output, (shape, whole) in zip(metadata.output.names, outputs, expected[kind], strict=False):
        if not _fits(output.shape, shape) or output.dtype.kind not in ('iu' if whole else 'f'):
            sides = ' x '.join('any' if side is None else str(side) for side in shape)
            raise UserError(
                f'{metadata.model}: the graph gives {name} as {output.dtype} of {" x ".join(map(str, output.shape))}, '
                f'where its description has {"whole numbers" if whole else "numbers"} of {sides}; export it again'
            )
        if not whole and not np.isfinite(output).all():
            raise UserError(f'{metadata.model}: the graph gives {name} that are not finite numbers')
    labels = first if kind == 'labels' else others[0] if kind in _SELECTED else None
    if labels is not None and labels.size and labels.max() >= classes:
        raise UserError(f'{metadata.model}: the graph gives the label {labels.max()}, and there are {classes} classes')
    if kind == 'labels' and labels is not None and labels.size and labels.min() < 0:
        raise UserError(f'{metadata.model}: the graph gives the label {labels.min()}')
    _check_masks(outputs, metadata)
    levels_given = kind in BY_ANCHOR and len(outputs) > len(OUTPUT_NAMES[kind])
    if levels_given and (np.diff(outputs[-1]) < 0).any():
        raise UserError(f'{metadata.model}: the graph gives levels that do not ascend')


def _check_masks(outputs: Sequence[np.ndarray], metadata: Metadata) -> None:
    """Check that masks can be made of what a graph gave, whose shapes are as described.

    Raises:
        UserError: If they cannot.
    """
    if metadata.masks is None:
        return
    names = OUTPUT_NAMES[metadata.output.kind]
    maps, name = outputs[len(names) - 1], names[-1]
    if 0 in maps.shape[2:]:
        raise UserError(f'{metadata.model}: the graph gives {name} without pixels; export it again')
    if metadata.masks.channels is not None:
        kernels = outputs[names.index('kernels')]
        try:
            layer_shapes(kernels.shape[2], maps.shape[1] + 2, metadata.masks.channels)
        except ValueError as error:
            raise UserError(f'{metadata.model}: the graph gives kernels whose {error}; export it again') from None


def _length(output: np.ndarray) -> int | None:
    return output.shape[1] if output.ndim > 1 else None


def _fits(shape: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    return len(shape) == len(expected) and all(want in (None, have) for have, want in zip(shape, expected, strict=True))
