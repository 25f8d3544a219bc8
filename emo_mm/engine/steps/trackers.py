"""Experiment trackers: TensorBoard and others beside the log of the work directory, which the report reads."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from emo_mm.config.edits import Change, Edit
from emo_mm.config.parts import type_name
from emo_mm.config.view import ConfigView
from emo_mm.engine.options import RunOptions, TrainOptions
from emo_mm.errors import UserError

_LOCAL = 'LocalVisBackend'
_WRAPPED = 'emo_mm.Tracker'


@dataclass(frozen=True)
class _Row:
    """A tracker.

    Attributes:
        backend: MMEngine's class for it.
        module: What must be importable; the extra of the package that installs it is ``track-`` and its name.
        settings: Settings of the backend, from the work directory.
    """

    backend: str
    module: str
    settings: Callable[[Path], dict[str, Any]] = field(default=lambda work_dir: {})


def _mlflow_settings(work_dir: Path) -> dict[str, Any]:
    """Return where MLflow keeps its runs: the server that its own variable names, or files of the work directory."""
    folder = work_dir.absolute()
    server = os.environ.get('MLFLOW_TRACKING_URI')
    # MLflow 3 keeps runs in a database only
    own = {'tracking_uri': f'sqlite:///{folder / "mlflow.db"}', 'artifact_location': (folder / 'mlartifacts').as_uri()}
    return {'exp_name': work_dir.name, **({'tracking_uri': server} if server else own)}


TRACKERS: dict[str, _Row] = {
    'tensorboard': _Row('TensorboardVisBackend', 'tensorboard'),
    'wandb': _Row('WandbVisBackend', 'wandb'),
    'mlflow': _Row('MLflowVisBackend', 'mlflow', _mlflow_settings),
}


def track(view: ConfigView, options: TrainOptions) -> Change:
    """Add the trackers asked for.

    Raises:
        UserError: If one is not known, or is not installed.
    """
    if options.track is None:
        return Change()
    backends = _backends(view)
    for name in filter(None, options.track.replace(' ', ',').split(',')):
        row = TRACKERS.get(name)
        if row is None:
            raise UserError(f'--track {name}: it must be of {", ".join(TRACKERS)}, with commas between several')
        if find_spec(row.module) is None:
            raise UserError(
                f"--track {name} needs {row.module}, which is not installed: pip install 'emo-mm[track-{name}]'"
            )
        if not any(row.backend in (type_name(one), type_name(one.get('backend', {}))) for one in backends):
            backends.append({'type': row.backend, **row.settings(Path(view.cfg.work_dir))})
    return Change((Edit('visualizer.vis_backends', backends),))


def local_log(view: ConfigView, options: RunOptions) -> Change:
    """Keep the log of the work directory, which the report reads, first, and let no other backend end a run."""
    if not view.part('visualizer').node:
        return Change()  # MMEngine's own visualizer has the local log alone
    before = _backends(view)
    local = [one for one in before if type_name(one) == _LOCAL]
    others = [one for one in before if type_name(one) != _LOCAL]
    after = [*(local or [{'type': _LOCAL}])[:1], *map(_wrapped, others)]
    if after == before:
        return Change()
    lines = () if local else (f'{_LOCAL} is added to the visualizer: the report reads its log',)
    return Change((Edit('visualizer.vis_backends', after),), lines)


def _backends(view: ConfigView) -> list[dict[str, Any]]:
    found = view.part('visualizer').node.get('vis_backends') or []
    return [dict(found)] if isinstance(found, dict) else list(found)


def _wrapped(backend: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a backend whose failures are warnings."""
    if backend.get('type') == _WRAPPED:
        return backend
    inner = {key: value for key, value in backend.items() if key != 'name'}
    return {'type': _WRAPPED, 'name': backend.get('name') or type_name(backend), 'backend': inner}
