"""The device of a run. Nothing slow is imported: it must be chosen before PyTorch looks at the GPUs."""

from __future__ import annotations

import os
import re

from emo_mm.errors import UserError


def choose_device(device: str | None, launcher: str = 'none') -> None:
    """Let this process see the GPU that was asked for, or none.

    MMEngine takes the first GPU that it sees, so the others are hidden from it.

    Args:
        device: ``cpu``, ``cuda``, ``cuda:N`` for the GPU of this number, or None for what there is.
        launcher: What starts the processes of the run.

    Raises:
        UserError: If it is none of them, or one GPU is asked for a run on several.
    """
    if device is None or device == 'cuda':
        return
    if device == 'cpu':
        os.environ['CUDA_VISIBLE_DEVICES'] = ''
        return
    match = re.fullmatch(r'cuda:(\d+)', device)
    if match is None:
        raise UserError(f'--device is {device!r}; it must be cpu, cuda or cuda:N')
    if launcher != 'none':
        raise UserError(f'--device {device}: --launcher {launcher} gives each process a GPU; leave one of them out')
    seen, number = os.environ.get('CUDA_VISIBLE_DEVICES'), int(match[1])
    names = None if seen is None else [name for name in seen.split(',') if name]
    if names is not None and number >= len(names):
        raise UserError(f'--device {device}: CUDA_VISIBLE_DEVICES={seen} shows {len(names)} GPUs; they count from 0')
    os.environ['CUDA_VISIBLE_DEVICES'] = str(number) if names is None else names[number]
