"""One row of a benchmark: a model in a runtime."""

from __future__ import annotations

from dataclasses import dataclass

from emo_mm.benchmark.subjects import Size, Subject

MODES = {
    'forward': 'the network alone, from a batch of images to its raw outputs',
    'e2e': 'JPEG files to predictions: decoding, test pipeline, network, post-processing',
    'train': 'a training step: forward, backward, AdamW',
    'train-cp': 'the same, with activations recomputed in the backward pass (with_cp)',
}
DTYPES = ('fp32', 'tf32', 'bf16', 'fp16')


@dataclass(frozen=True)
class Contestant:
    """One row of the results: a model in a runtime, with one input, in a process of its own.

    Attributes:
        subject: The model.
        runtime: Name in ``RUNTIMES``.
        mode: Name in ``MODES``.
        dtype: Name in ``DTYPES``.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        size: Height and width of the input.
        batch: Images per step.
        threads: Threads of the CPU.
        files: JPEG files, for ``e2e``.
    """

    subject: Subject
    runtime: str
    mode: str
    dtype: str
    device: str
    size: Size
    batch: int
    threads: int
    files: tuple[str, ...] = ()

    @property
    def trains(self) -> bool:
        """Whether its step is one of training."""
        return self.mode.startswith('train')

    @property
    def pixels(self) -> str:
        """Height×width of its input, as text."""
        return f'{self.size[0]}×{self.size[1]}'

    @property
    def title(self) -> str:
        """What it is called on the screen."""
        dtype = '' if self.dtype == 'fp32' else f' {self.dtype}'
        return f'{self.subject.name} {self.runtime}{dtype}'

    def is_baseline_of(self, other: Contestant, baseline: str) -> bool:
        """Return whether another one of its group is compared with this one."""
        same_model, same_runtime = self.subject.name == other.subject.name, self.runtime == other.runtime
        if baseline in (self.runtime, self.subject.name):
            return same_model if baseline == self.runtime else same_runtime
        return False
