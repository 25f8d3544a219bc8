"""A warm-up that fits the run: on few images, the recipes' 500 iterations would be all of it."""

from __future__ import annotations

from typing import Any

_SHARE = 10  # a warm-up takes at most one part of so many
_FACTOR = {'LinearLR': 'start_factor', 'ConstantLR': 'factor'}  # schedulers that warm up -> what they begin with


def fit_warm_up(schedulers: list[dict[str, Any]], iterations: int) -> list[str]:
    """Shorten warm-ups that are counted in iterations to a tenth of a training; change them in place.

    Args:
        schedulers: The ``param_scheduler`` of a config.
        iterations: Iterations of the whole training.

    Returns:
        Lines to print: what was changed.
    """
    longest, lines = iterations // _SHARE, []
    for scheduler in schedulers:
        kind = str(scheduler.get('type', '')).rpartition('.')[2]
        length = scheduler.get('end')
        if (
            kind not in _FACTOR
            or scheduler.get('by_epoch', True)
            or scheduler.get('begin', 0)
            or not isinstance(length, int)
        ):
            continue
        if length <= longest:
            continue
        if longest < 2:  # MMEngine's schedulers need two steps to come to their end; the list keeps its length
            scheduler[_FACTOR[kind]] = 1.0
            longest_text = 'none'
        else:
            scheduler['end'] = longest
            longest_text = f'{longest} iterations'
        lines.append(f'warm-up: {longest_text} instead of {length}, as the whole training has {iterations} iterations')
    return lines
