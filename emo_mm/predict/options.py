"""What ``emo-mm predict`` is asked for. It imports nothing slow, as the help is made from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from emo_mm.errors import UserError

# Boxes that score lower are seldom worth looking at; models keep those above 0.02 or so, for evaluations.
DISPLAY_THRESHOLD = 0.3


@dataclass(frozen=True)
class PredictOptions:
    """What the command line of ``predict`` gives.

    Attributes:
        sources: Images, folders, globs, http addresses of images, videos and numbers of cameras.
        model: A checkpoint, an exported file, the name or path of a config, or
            ``hf://owner/name``.
        weights: A checkpoint of the whole model, for a config.
        out: Folder for what is saved.
        save_json: Save the results to ``results.json``, boxes in COCO's format of results.
        save_images: Save the images with the results drawn in.
        save_masks: Save label maps as PNG.
        coco_ids: COCO annotation file whose numbers of images and classes are used in ``results.json``.
        batch: Images that the network gets at once.
        score_threshold: Boxes must score higher; if not given 0.3, or with ``--coco-ids``, whose results are for an
            evaluation, the threshold of the model.
        compiled: Compile a PyTorch model: it takes a minute, and is faster then.

    Raises:
        UserError: If a number is out of range.
    """

    sources: Sequence[str]
    model: str
    weights: str | None = None
    out: str = 'predictions'
    save_json: bool = False
    save_images: bool = False
    save_masks: bool = False
    coco_ids: str | None = None
    batch: int = 1
    score_threshold: float | None = None
    compiled: bool = False

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise UserError(f'--batch is {self.batch}; it must be at least 1')
        if self.score_threshold is not None and not 0 <= self.score_threshold <= 1:
            raise UserError(f'--score-threshold is {self.score_threshold}; it must be 0 to 1')

    @property
    def saves(self) -> bool:
        """Whether results are saved; if not, each is printed as a line."""
        return self.save_json or self.save_images or self.save_masks

    @property
    def threshold(self) -> float | None:
        """The score threshold that applies; None for the model's own."""
        if self.score_threshold is None and self.coco_ids is None:
            return DISPLAY_THRESHOLD
        return self.score_threshold
