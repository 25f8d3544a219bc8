"""``emo-mm data shapes``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ShapesOptions:
    """What the command line of ``data shapes`` gives.

    Attributes:
        root: Folder to make.
        num_train: Number of training scenes; each class folder gets a quarter as many pictures.
        num_val: Number of validation scenes, likewise.
        seed: Which data set: each seed gives other pictures.
    """

    root: str
    num_train: int = 400
    num_val: int = 100
    seed: int = 0


def make(options: ShapesOptions) -> None:
    """Make the demonstration data set."""
    from emo_mm.data.shapes.generate import generate

    print(generate(options.root, num_train=options.num_train, num_val=options.num_val, seed=options.seed))
