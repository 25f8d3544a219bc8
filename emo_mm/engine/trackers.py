"""Experiment trackers, which may fail without an end to the training."""

from __future__ import annotations

import logging
from typing import Any

from mmengine.logging import print_log
from mmengine.registry import VISBACKENDS as MMENGINE_VISBACKENDS
from mmengine.visualization.vis_backend import BaseVisBackend

from emo_mm.errors import first_line
from emo_mm.registry import VISBACKENDS


@VISBACKENDS.register_module()
class Tracker(BaseVisBackend):
    """Hand what is logged to a visualization backend, and go on without it where it fails.

    A network that is down, a full quota or an account that is missing must not cost a training. The first failure is a
    warning; what failed once is not tried again, so that no step waits for the same network twice.

    Args:
        save_dir: Folder for what the backend writes, unless its settings name another.
        backend: Settings of the backend, with its ``type``.
    """

    def __init__(self, save_dir: str, backend: dict[str, Any]) -> None:
        super().__init__(save_dir)
        self.name = str(backend['type'])
        self._failed: set[str] = set()
        self._inner: Any = MMENGINE_VISBACKENDS.build({'save_dir': save_dir, **backend})

    @property
    def experiment(self) -> Any:
        """The object of the tracker's own library; None where it cannot be made."""
        try:
            return self._inner.experiment
        except Exception as error:
            self._warn('experiment', error)
            return None

    def _init_env(self) -> None:
        """Do nothing: the backend begins by itself."""

    def add_config(self, config: Any, **kwargs: Any) -> None:
        """Record the config."""
        self._hand('add_config', config, **kwargs)

    def add_graph(self, model: Any, data_batch: Any, **kwargs: Any) -> None:
        """Record the graph of the model."""
        self._hand('add_graph', model, data_batch, **kwargs)

    def add_image(self, name: str, image: Any, step: int = 0, **kwargs: Any) -> None:
        """Record a picture."""
        self._hand('add_image', name, image, step, **kwargs)

    def add_scalar(self, name: str, value: Any, step: int = 0, **kwargs: Any) -> None:
        """Record a number."""
        self._hand('add_scalar', name, value, step, **kwargs)

    def add_scalars(self, scalar_dict: dict, step: int = 0, file_path: str | None = None, **kwargs: Any) -> None:
        """Record several numbers."""
        self._hand('add_scalars', scalar_dict, step, file_path, **kwargs)

    def close(self) -> None:
        """End the record."""
        self._hand('close')

    def _hand(self, method: str, *values: Any, **settings: Any) -> None:
        """Call a method of the backend, unless it failed before."""
        if method in self._failed:
            return
        try:
            getattr(self._inner, method)(*values, **settings)
        except Exception as error:  # whatever the libraries of trackers raise
            self._warn(method, error)

    def _warn(self, method: str, error: Exception) -> None:
        if not self._failed:
            print_log(
                f'{self.name} failed in {method}, and the training goes on without it: {first_line(error, True)}',
                logger='current',
                level=logging.WARNING,
            )
        self._failed.add(method)
