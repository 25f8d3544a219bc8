"""What is said at the end of a training that came to nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from emo_mm.tasks import Task

_FLAG = re.compile(r'(?<!\S)--[a-z]')
_LONGER = 3


def verdict(
    task: Task, figures: Mapping[str, float], length: int, by_epoch: bool, steps: int, lines: Sequence[str]
) -> str | None:
    """Return the words on a model that finds next to nothing, and what may help; None where it finds something.

    Args:
        task: The task; ``useless`` of it is the limit.
        figures: Metrics of the best checkpoint, as the toolbox logs them.
        length: Of the training, in epochs or iterations.
        by_epoch: Whether that is epochs.
        steps: Iterations that the training made.
        lines: What was printed before the training; those that name a flag are advice.
    """
    score = figures.get(task.demo_metric)
    if task.useless is None or score is None or score >= task.useless:
        return None
    flag = f'--{"epochs" if by_epoch else "iters"} {_LONGER * length}'
    advice = [f'more steps: it made {steps}, and {flag} makes {_LONGER} times as many']
    advice += [line for line in lines if _FLAG.search(line)]
    told = f'{task.demo_metric} is {score:.3f} on the validation images: this {task.model} finds next to nothing.'
    return '\n  - '.join([f'{told} What may help:', *advice])
