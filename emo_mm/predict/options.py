"""What ``emo-mm predict`` is asked for. It imports nothing slow, as the help is made from it."""

from __future__ import annotations

import re
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
        save_json: Save the results to ``results.json``, boxes and masks of objects in COCO's format of results.
        save_images: Save the images with the results drawn in.
        save_masks: Save label maps as PNG; of instance segmenters the number of the object at each pixel.
        coco_ids: COCO annotation file whose numbers of images and classes are used in ``results.json``.
        batch: Images that the network gets at once.
        score_threshold: Boxes must score higher; if not given what the training found best, or 0.3 where it noted
            nothing; with ``--coco-ids``, whose results are for an evaluation, the least score that the model gives.
        compiled: Compile a PyTorch model: it takes a minute, and is faster then.
        save_parquet: Save the results of many images in parts, as Parquet files below ``shards``, of which
            ``emo-mm merge`` makes ``results.json``. Lists of images, tar files and stores may be named too.
        shard_size: Images in each part; 256 if not given, and with ``--resume`` as many as the job has.
        shards: Which parts to predict: the I-th, (I+N)-th, ... for ``I/N``, so that N processes share the work.
        resume: Continue a job whose folder holds parts of it already.

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
    save_parquet: bool = False
    shard_size: int | None = None
    shards: str = '1/1'
    resume: bool = False

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise UserError(f'--batch is {self.batch}; it must be at least 1')
        if self.score_threshold is not None and not 0 <= self.score_threshold <= 1:
            raise UserError(f'--score-threshold is {self.score_threshold}; it must be 0 to 1')

        if self.shard_size is not None and self.shard_size < 1:
            raise UserError(f'--shard-size is {self.shard_size}; it must be at least 1')
        _ = self.share
        in_parts = self.shard_size is not None or self.shards != '1/1' or self.resume
        if in_parts and not self.save_parquet:
            raise UserError('--shard-size, --shards and --resume belong to --save-parquet; give it too')
        if self.save_parquet and (self.saves or self.coco_ids is not None):
            raise UserError(
                '--save-parquet saves boxes, masks and probabilities alike; leave out --save-json, --save-images, '
                '--save-masks and --coco-ids, the last of which emo-mm merge takes'
            )

    @property
    def share(self) -> tuple[int, int]:
        """Which of how many shares of the parts to predict, from 0.

        Raises:
            UserError: If ``shards`` is not of the form I/N.
        """
        match = re.fullmatch(r'(\d+)/(\d+)', self.shards)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise UserError(f'--shards is {self.shards!r}; it must be I/N with I from 1 to N, such as 2/8')
        return int(match[1]) - 1, int(match[2])

    @property
    def saves(self) -> bool:
        """Whether results are saved; if not, each is printed as a line."""
        return self.save_json or self.save_images or self.save_masks

    def threshold_for(self, noted: float | None) -> float | None:
        """Return the score threshold that applies; None for the least score that the model gives.

        Args:
            noted: The one that the training found best; None if it noted none.
        """
        if self.score_threshold is not None or self.coco_ids is not None:
            return self.score_threshold
        return DISPLAY_THRESHOLD if noted is None else noted


@dataclass(frozen=True)
class MergeOptions:
    """What the command line of ``merge`` gives.

    Attributes:
        out: The folder that ``predict --save-parquet`` was given as ``--out``.
        coco_ids: COCO annotation file whose numbers of images and classes are used in ``results.json``.
    """

    out: str
    coco_ids: str | None = None
