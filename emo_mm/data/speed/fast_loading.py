"""Puts the loaders of ``emo_mm.data.speed.loading`` into a config, where the user asks for them."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from emo_mm.config.edits import Change, Edit
from emo_mm.config.parts import type_name
from emo_mm.config.pipeline import steps_of
from emo_mm.config.view import ConfigView
from emo_mm.data.splits import count
from emo_mm.errors import UserError
from emo_mm.weights.cache import cache_dir

# Files in memory, on Linux; mkdtemp makes the folder in it, for its owner alone.
SHARED_MEMORY = Path('/dev/shm')  # nosec B108
_PREFIX = 'emo_mm_images_'


def cache_images(view: ConfigView, kind: str, gigabytes: float | None = None) -> Change:
    """Let the data sets of a config keep decoded images, in memory for this run or on disk for the next ones too.

    The workers of the loaders share one cache. It is filled as images are first read.

    Args:
        view: The config.
        kind: ``ram`` or ``disk``.
        gigabytes: What the images may take (10^9 bytes); half of what is free if None.

    Raises:
        UserError: If there is no such memory or not that much, or images do not come from local files.
    """
    steps = [step for split in view.splits for step in steps_of(view, split)]
    loaders = [part for part in steps if type_name(part.node) == 'LoadImageFromFile']
    if not loaders:
        raise UserError('--cache: no pipeline of the config has a LoadImageFromFile, whose images could be kept')
    if any(part.node.get(key) for part in loaders for key in ('backend_args', 'file_client_args')):
        raise UserError('--cache keeps images of local files, and the config reads them by backend_args; leave one out')
    if kind == 'ram':
        if view.cfg.get('launcher', 'none') != 'none':
            raise UserError('--cache ram would hold every image once per process; processes share --cache disk')
        base = SHARED_MEMORY
        if not base.is_dir():
            raise UserError(f'--cache ram needs {base}, which Linux has; take --cache disk')
        _remove_left_over(base)
    else:
        base = cache_dir().with_name('images')
        base.mkdir(parents=True, exist_ok=True)
    limit = _limit(base, gigabytes)
    if kind == 'ram':
        base = Path(tempfile.mkdtemp(prefix=f'{_PREFIX}{os.getpid()}_', dir=base))
        atexit.register(_remove, base, os.getpid())
    edits = [
        edit
        for part in loaders
        for edit in (
            *part.remove('backend_args', 'file_client_args'),
            *part.edit(type='emo_mm.LoadCachedImage', cache_dir=base.as_posix(), cache_limit=limit),
        )
    ]
    end = 'removed at the end' if kind == 'ram' else 'kept for later runs'
    line = f'images are decoded once and kept in {base}: at most {limit / 1e9:.1f} GB, {end}'
    return Change(tuple(edits), (line,))


def use_reduced_decoding(view: ConfigView) -> Change:
    """Let the test set decode JPEG files at the smallest size that is nowhere below what the network is given.

    Raises:
        UserError: If the pipeline does not resize images as it loads them.
    """
    edits: list[Edit] = []
    for dataset in view.splits['test'].datasets:
        pipeline = dataset.node['pipeline']
        if len(pipeline) > 1 and pipeline[0] == {'type': 'LoadImageFromFile'} and _fits(pipeline[1]):
            resize = {key: value for key, value in pipeline[1].items() if key != 'type'}
            edits += dataset.edit(pipeline=[dict(type='emo_mm.LoadResizedImage', **resize), *pipeline[2:]])
    if not edits:
        raise UserError(
            '--reduced-decoding: the test pipeline must begin with LoadImageFromFile and Resize with a scale, '
            'without other options than keep_ratio and interpolation'
        )
    line = f"{count(len(edits), 'pipeline')}: JPEG files far larger than the network's input are decoded at a fraction"
    return Change(tuple(edits), (line,))


def _fits(resize: dict[str, Any]) -> bool:
    known = {'type', 'scale', 'keep_ratio', 'interpolation'}
    return type_name(resize) == 'Resize' and 'scale' in resize and set(resize) <= known


def _limit(folder: Path, gigabytes: float | None) -> int:
    """Return the bytes that a cache in a folder may take."""
    taken = folder / 'used_bytes'
    free = shutil.disk_usage(folder).free + (int(taken.read_text()) if taken.is_file() else 0)
    limit = free // 2 if gigabytes is None else int(gigabytes * 1e9)
    if not 0 < limit <= free:
        raise UserError(f'--cache-gb {gigabytes}: {folder} has room for {free / 1e9:.1f} GB; give less')
    return limit


def _remove_left_over(base: Path) -> None:
    """Remove the caches of processes that were killed."""
    for folder in base.glob(f'{_PREFIX}*'):
        process = folder.name.removeprefix(_PREFIX).split('_')[0]
        if process.isdigit() and not Path(f'/proc/{process}').exists():
            shutil.rmtree(folder, ignore_errors=True)


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # not in a worker that was forked from it
        shutil.rmtree(folder, ignore_errors=True)
