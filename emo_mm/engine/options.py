"""What the command line of ``train`` and ``test`` gives. It imports nothing slow, as the help is made from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from emo_mm.data.splits import DataRequest


@dataclass
class RunOptions:
    """What the command line of ``train`` and ``test`` gives.

    Attributes:
        config: Name of a config (``emo-mm list`` shows them), or path of one.
        work_dir: Folder for logs, checkpoints and pictures; ``work_dirs/<name>`` if not given.
        cfg_options: Settings of the config to override: dotted keys with their values.
        launcher: What starts the processes of a run on several GPUs or machines.
        data: The user's own data set, or another place of the config's; empty for the config's data as they are.
        batch_size: Images in a batch that each process trains on, or tests on.
        workers: Loader processes per process.
        cache: Keep decoded images: in memory for this run (``ram``), or on the disk for later runs too (``disk``). None
            decodes them each time.
        cache_gb: Size of the cache in 10^9 bytes; half of what is free if not given.
        check: Check the images before the run: read their headers and ends (``quick``), or decode them all (``full``).
            None leaves the files unread.
        bad_data: Stop at faulty images and annotations (``error``), or leave them out (``skip``).
        no_report: Leave out the report with its pictures.
        dry_run: Print what the options and data change in the config, and stop before anything is written.
    """

    config: str
    work_dir: str | None = None
    cfg_options: dict[str, Any] = field(default_factory=dict)
    launcher: Literal['none', 'pytorch', 'slurm', 'mpi'] = 'none'
    data: DataRequest = field(default_factory=DataRequest)
    batch_size: int | None = None
    workers: int | None = None
    cache: Literal['ram', 'disk'] | None = None
    cache_gb: float | None = None
    check: Literal['quick', 'full'] | None = 'quick'
    bad_data: Literal['error', 'skip'] = 'error'
    no_report: bool = False
    dry_run: bool = False


@dataclass
class TrainOptions(RunOptions):
    """What the command line of ``train`` gives beyond that.

    Attributes:
        resume: Continue from the newest checkpoint of the work directory (``auto``), or from the given file.
        amp: Train in mixed precision (on a GPU).
        auto_scale_lr: Scale the learning rate with the total batch size.
        weights: Weights to start the backbone from: a file, an address, the name of published weights, or ``none`` to
            train from scratch. None keeps what the config says.
        epochs: Length of the training in epochs; the schedule is stretched to it.
        iters: Length of the training in iterations, where the config counts them; the schedule is stretched to it.
        lr: Base learning rate.
        seed: Seed of the random number generators.
        keep_empty: Train on images without boxes too, which detection recipes leave out.
        skip_non_finite: Skip up to this many steps whose loss or gradients are not finite, instead of stopping at the
            first.
        anchors: Choose the anchors of a detector by the boxes of the training data (``auto``). None keeps those of the
            config.
        input: Size of the input in pixels (the short side where the recipe keeps the aspect ratio); pipelines, crops
            and the anchors of SSD are scaled to it.
        patience: Stop after this many validations in a row without a better score.
        freeze: Freeze the backbone up to this stage (0 is the stem, -1 freezes nothing).
        class_weights: Weight the loss of each class by how rare it is in the training data (``auto``).
        balance: Repeat images with rare classes.
        device: What to train on: ``cpu``, ``cuda`` or ``cuda:N``; a GPU if not given and there is one.
        no_val: Train without validation, where there are no images for it.
        val_loss: Compute the loss over the validation images too, by one more pass over them after each validation;
            curves.png draws it beside the loss of the training.
        track: Log to these trackers too: ``tensorboard``, ``wandb``, ``mlflow``, with commas between several.
    """

    resume: str | None = None
    amp: bool = False
    auto_scale_lr: bool = False
    weights: str | None = None
    epochs: int | None = None
    iters: int | None = None
    lr: float | None = None
    seed: int | None = None
    keep_empty: bool = False
    skip_non_finite: int = 0
    anchors: Literal['auto'] | None = None
    input: int | None = None
    patience: int | None = None
    freeze: int | None = None
    class_weights: Literal['auto'] | None = None
    balance: bool = False
    device: str | None = None
    no_val: bool = False
    val_loss: bool = False
    track: str | None = None


@dataclass
class EvaluateOptions(RunOptions):
    """What the command line of ``test`` gives beyond that.

    Attributes:
        checkpoint: A checkpoint of the whole model; or an exported file, which runs in its own
            runtime.
        out: JSON file for the metrics; ``test_metrics.json`` of the work directory if not given.
        show_dir: Folder for pictures of the predictions; none are drawn if not given.
        format_only: Write the files that the test servers of COCO and ADE20K take, to ``submission`` in the work
            directory, instead of computing metrics. The test set then needs no annotations.
        reduced_decoding: Decode JPEG files far larger than needed at a fraction of their size, which may change the
            metrics slightly.
    """

    checkpoint: str = field(kw_only=True)
    out: str | None = None
    show_dir: str | None = None
    format_only: bool = False
    reduced_decoding: bool = False
