"""A format that remembers answers: one module, for tests that add it to the tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from emo_mm.export.check import images_in, input_of
from emo_mm.export.job import Job
from emo_mm.runtime.seal import check_seal
from emo_mm.runtime.sessions.session import cannot_load, described


def write(job: Job, path: Path) -> None:
    """Write the answers for eight inputs."""
    inputs = [input_of([image], tuple(job.example.shape[2:]), job.metadata) for image in images_in(None, 8)]
    with torch.inference_mode():
        outputs = [job.graph(torch.from_numpy(batch))[0].numpy() for batch in inputs]
    with path.open('wb') as file:
        np.savez(file, inputs=np.concatenate(inputs), outputs=np.concatenate(outputs))


class ToySession:
    """Gives the answer for the input that is nearest."""

    def __init__(self, path: Path, threads: int, batch: int | None = None) -> None:
        check_seal(path)
        self.metadata = described(None, path)
        try:
            with np.load(path) as content:
                self._inputs, self._outputs = content['inputs'], content['outputs']
        except (ValueError, KeyError) as error:
            raise cannot_load(path, 'the toy', error) from None

    def run(self, batch: np.ndarray) -> list[np.ndarray]:
        apart = [np.abs(self._inputs - image).sum((1, 2, 3)).argmin() for image in batch]
        return [self._outputs[apart]]
