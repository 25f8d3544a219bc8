"""The settings of a backbone: checked, and ordered by stage."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

STAGES = 4
# of the blocks, by stage
_NORMS = ('bn', 'bn', 'ln', 'ln')
_ACTS = ('silu', 'silu', 'gelu', 'gelu')


@dataclass(frozen=True)
class StageSettings:
    """The settings of one stage.

    Attributes:
        depth: Number of its blocks.
        dim: Width of its map.
        expand_ratio: By how much a block widens the map inside.
        kernel_size: Side of the depthwise convolution.
        num_heads: Heads of the attention; 0 for a stage without.
        norm: Kind of the norms.
        act: Kind of the activations.
        window_size: Side of the attention windows in pixels of the map; 0 for one window over the whole map.
    """

    depth: int
    dim: int
    expand_ratio: float
    kernel_size: int
    num_heads: int
    norm: str
    act: str
    window_size: int


@dataclass(frozen=True)
class PyramidSettings:
    """The settings of a backbone.

    Attributes:
        stages: Those of each of the four stages.
        in_channels: Channels of the image.
        out_indices: Maps to return, from 0 (stem) to 4.
        drop_path_rate: Rate of stochastic depth at the last block.
        frozen_stages: -1 for nothing, 0 for the stem, k for the stem and stages 1 to k.
    """

    stages: tuple[StageSettings, ...]
    in_channels: int
    out_indices: tuple[int, ...]
    drop_path_rate: float
    frozen_stages: int

    @property
    def dims(self) -> tuple[int, ...]:
        """The widths of the stages."""
        return tuple(stage.dim for stage in self.stages)


def pyramid_settings(
    archs: Mapping[str, Mapping[str, Any]],
    arch: str | Mapping[str, Any],
    in_channels: int,
    out_indices: Sequence[int],
    window_size: int | Sequence[int],
    drop_path_rate: float | None,
    frozen_stages: int,
) -> PyramidSettings:
    """Return the settings that the arguments of a backbone stand for.

    Args:
        archs: The published architectures by name.
        arch: Argument of :class:`~emo_mm.models.pyramid.MobilePyramid`, as are the others.
        in_channels: Likewise.
        out_indices: Likewise.
        window_size: Likewise.
        drop_path_rate: Likewise.
        frozen_stages: Likewise.

    Raises:
        ValueError: If an argument has a value that is not allowed.
    """
    row = _arch_row(arch, archs)
    rate = row.get('drop_path_rate', 0.0) if drop_path_rate is None else drop_path_rate
    if not _is_number(rate) or not 0 <= rate < 1:
        raise ValueError(f'drop_path_rate is {rate}; it must be at least 0 and below 1')
    if not _is_whole(in_channels) or in_channels < 1:
        raise ValueError(f'in_channels is {in_channels}; it must be at least 1')
    if frozen_stages not in range(-1, STAGES + 1):
        raise ValueError(f'frozen_stages is {frozen_stages}; it must be -1 (nothing), 0 (the stem) or 1 to {STAGES}')
    columns = (row['depths'], row['embed_dims'], row['expand_ratio'], row['kernel_size'], row['num_heads'])
    stages = zip(*columns, _NORMS, _ACTS, _window_sizes(window_size), strict=True)
    return PyramidSettings(
        stages=tuple(StageSettings(*stage) for stage in stages),
        in_channels=in_channels,
        out_indices=_indices(out_indices),
        drop_path_rate=rate,
        frozen_stages=frozen_stages,
    )


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: Any, dim: Any) -> bool:
    return _is_whole(value) and value >= 1


# For each key of an architecture: whether an entry is allowed in a stage of some width, and what it must be. The widths
# come first, as the others are checked against them.
_ENTRIES: Mapping[str, tuple[Callable[[Any, int], bool], str]] = {
    'embed_dims': (_is_count, 'a whole number of at least 1'),
    'depths': (_is_count, 'a whole number of at least 1'),
    'expand_ratio': (lambda ratio, dim: _is_number(ratio) and int(dim * ratio) >= 1, 'a number above 0'),
    'kernel_size': (lambda kernel, dim: kernel in (3, 5, 7, 9), '3, 5, 7 or 9'),
    'num_heads': (
        lambda heads, dim: _is_whole(heads) and heads >= 0 and (heads == 0 or dim % heads == 0),
        '0 or a divisor of the width',
    ),
}


def _arch_row(arch: str | Mapping[str, Any], archs: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the row of a named architecture, or a given one after a check."""
    if isinstance(arch, str) and arch in archs:
        return archs[arch]
    if not isinstance(arch, Mapping):
        raise ValueError(f'arch is {arch!r}; it must be one of {", ".join(map(repr, archs))} or a dict')
    optional = {'drop_path_rate'}
    unknown, missing = arch.keys() - _ENTRIES.keys() - optional, _ENTRIES.keys() - arch.keys()
    if unknown or missing:
        raise ValueError(
            f'arch has unknown keys {sorted(map(str, unknown))} and lacks {sorted(missing)}; '
            f'its keys are {sorted(_ENTRIES.keys() | optional)}'
        )
    for key, (is_allowed, words) in _ENTRIES.items():
        if not isinstance(arch[key], Sequence) or len(arch[key]) != STAGES:
            raise ValueError(f"arch['{key}'] is {arch[key]!r}; it must have one entry for each of the four stages")
        for number, (value, dim) in enumerate(zip(arch[key], arch['embed_dims'], strict=True), 1):
            if not is_allowed(value, dim):
                raise ValueError(
                    f"arch['{key}'] has {value!r} for stage {number}, whose width is {dim!r}; it must be {words}"
                )
    return arch


def _indices(out_indices: Sequence[int]) -> tuple[int, ...]:
    """Return indices from 0 to 4 for indices that may count from the end."""
    maps = STAGES + 1
    if (
        not isinstance(out_indices, Sequence)
        or not out_indices
        or any(i not in range(-maps, maps) for i in out_indices)
    ):
        raise ValueError(f'out_indices is {out_indices!r}; it must be a sequence of indices from 0 (stem) to {STAGES}')
    return tuple(i % maps for i in out_indices)


def _window_sizes(window_size: int | Sequence[int]) -> tuple[int, ...]:
    """Return one window size for each of the four stages."""
    sizes = tuple(window_size) if isinstance(window_size, Sequence) else (window_size,) * STAGES
    if len(sizes) != STAGES or any(not _is_whole(size) for size in sizes):
        raise ValueError(f'window_size is {window_size!r}; it must be a whole number or one for each of four stages')
    return sizes
