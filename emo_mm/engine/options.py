"""What a run is asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from emo_mm.data.splits import DataRequest


@dataclass
class RunOptions:
    """What the command line of ``train`` and ``test`` gives.

    Attributes:
        config: Name or path of the config.
        work_dir: Where logs, checkpoints and pictures go; ``work_dirs/<name>`` if None.
        cfg_options: Dotted keys of the config to new values.
        launcher: ``none``, ``pytorch``, ``slurm`` or ``mpi``.
        data: The user's own data set, or another place of the config's; empty for the config's data as they are.
        batch_size: Training images per process.
        workers: Loader processes per process.
        cache: Where to keep decoded images, ``ram`` or ``disk``; None decodes them each time.
        cache_gb: What those may take, in 10^9 bytes; half of what is free if None.
        check: How images are checked before the run: ``quick`` or ``full``; None passes over the check.
        bad_data: What to do about faulty images and annotations: ``error`` or ``skip``.
        dry_run: Print what the options and the data change in the config, and stop before anything is built.
    """

    config: str
    work_dir: str | None = None
    cfg_options: dict[str, Any] = field(default_factory=dict)
    launcher: str = 'none'
    data: DataRequest = field(default_factory=DataRequest)
    batch_size: int | None = None
    workers: int | None = None
    cache: str | None = None
    cache_gb: float | None = None
    check: str | None = 'quick'
    bad_data: str = 'error'
    dry_run: bool = False


@dataclass
class TrainOptions(RunOptions):
    """What the command line of ``train`` gives beyond that.

    Attributes:
        resume: ``auto`` for the newest checkpoint of the work directory, or a checkpoint.
        amp: Whether to train in mixed precision.
        auto_scale_lr: Whether to scale the learning rate with the total batch size.
        weights: Weights to start the backbone from (a path, an address or the name of published weights), or ``none``
            to train from scratch; None keeps what the config says.
        epochs: Length of the training; the schedule is stretched to it.
        iters: The same for a training counted in iterations.
        lr: Base learning rate.
        seed: Seed of the random number generators.
        skip_non_finite: Steps that may be left out where the loss or a gradient is not finite, before that is an error.
    """

    resume: str | None = None
    amp: bool = False
    auto_scale_lr: bool = False
    weights: str | None = None
    epochs: int | None = None
    iters: int | None = None
    lr: float | None = None
    seed: int | None = None
    skip_non_finite: int = 0


@dataclass
class EvaluateOptions(RunOptions):
    """What the command line of ``test`` gives beyond that.

    Attributes:
        checkpoint: The checkpoint, with every tensor of the model; or an exported file, which then runs in its own
            runtime.
        out: JSON file to write the metrics to; ``test_metrics.json`` of the work directory if None.
        show_dir: Folder for pictures of the predictions; none if None.
        format_only: Whether to write the files that the test servers of COCO and ADE20K take, to ``submission`` in the
            work directory, instead of computing metrics: no truth is needed then.
        reduced_decoding: Whether to decode JPEG files far larger than needed at a fraction of their size; figures may
            change slightly.
    """

    checkpoint: str = ''
    out: str | None = None
    show_dir: str | None = None
    format_only: bool = False
    reduced_decoding: bool = False
