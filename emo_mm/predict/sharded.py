"""What ``emo-mm predict --save-parquet`` does: many images in parts, each of which is done or not."""

from __future__ import annotations

import hashlib
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from emo_mm.data.splits import count, shortlist
from emo_mm.errors import UserError
from emo_mm.predict.manifest import Entry, Manifest, pyarrow_parquet, read_manifest
from emo_mm.predict.options import PredictOptions
from emo_mm.predict.run import Tally, open_predictor, summary
from emo_mm.predict.shards import (
    JOB,
    SCHEMA,
    JobDescription,
    failures_in,
    is_done,
    open_job,
    read_job,
    record_of,
    write_shard,
)
from emo_mm.runtime.metadata import Metadata
from emo_mm.runtime.predictor import Outcome, Predictor
from emo_mm.runtime.runtimes import runtime_of
from emo_mm.tasks import TASKS
from emo_mm.weights.cache import sha256_of
from emo_mm.weights.hub import local_model

_SHARD_SIZE = 256


@dataclass(frozen=True)
class Placed:
    """An image with its place in the manifest.

    Attributes:
        image_id: The place, from 0.
        entry: The image.
    """

    image_id: int
    entry: Entry

    def __str__(self) -> str:
        return self.entry.name


def predict_shards(options: PredictOptions) -> int:
    """Predict the parts of a job that are this process's and not done yet; print what was done.

    A part is written when its last image is predicted. Whatever is killed loses the parts under way, and no image is
    ever twice in the results.

    Returns:
        0, or 1 if an image failed.

    Raises:
        UserError: If the model or a source cannot be loaded, or the folder is of another job.
    """
    warnings.simplefilter('ignore', Image.DecompressionBombWarning)  # images of up to 179 million pixels are meant
    pyarrow_parquet('--save-parquet')  # before the images are listed, which may take long
    out = Path(options.out)
    manifest = read_manifest(options.sources, out)
    predictor = open_predictor(options)
    job = _job(options, manifest, predictor.metadata)
    open_job(out, job)
    mine = range(options.share[0], job.shards, options.share[1])
    left = _left(out, job, mine, options.resume)
    failed_before = _told_of_done(out, job, sorted(set(mine) - set(left)))
    if not left:
        there = f'all {count(len(mine), "part")} of it are there' if mine else f'of {job.shards} parts it has none'
        print(f'--shards {options.shards}: {there}; nothing was predicted', file=sys.stderr)
        return 1 if failed_before else 0
    start, tally = time.monotonic(), Tally()
    total = sum(len(_images(job, shard)) for shard in left)
    with tqdm(total=total, unit='image', file=sys.stderr) as bar:
        for outcome in _written(predictor, manifest, job, left, out):
            tally = tally.with_one_more(outcome)
            if outcome.error is not None:
                bar.write(f'error: {outcome.error}', file=sys.stderr)
            bar.update()
    for line in summary(tally, str(out), job.score_threshold):
        print(line, file=sys.stderr)
    seconds = max(time.monotonic() - start, 1e-9)
    print(
        f'{len(left)} of {job.shards} parts written in {seconds:.1f} s, {total / seconds:.1f} images per second; when '
        f'all are there, emo-mm merge {out} makes results.json',
        file=sys.stderr,
    )
    return 1 if tally.failed or failed_before else 0


def _job(options: PredictOptions, manifest: Manifest, metadata: Metadata) -> JobDescription:
    task = TASKS[metadata.task]
    boxes = 'objects' if task.finds_outlines else 'boxes'
    return JobDescription(
        schema=SCHEMA,
        manifest=manifest.sha256,
        images=manifest.count,
        shard_size=options.shard_size or _usual_size(options),
        model=_model_sha256(options),
        kind=boxes if task.finds_boxes else 'labels' if task.gives_masks else 'probabilities',
        classes=tuple(metadata.classes),
        score_threshold=None if metadata.nms is None else metadata.nms.score_threshold,
    )


def _model_sha256(options: PredictOptions) -> str:
    """Return the hash of what predicts: its files, or the name of a config and its weights."""
    digest = hashlib.sha256()
    for name in (local_model(options.model), options.weights or ''):
        path = Path(name)
        runtime = runtime_of(path)
        files = [path, *(path.with_suffix(suffix) for suffix in (runtime.companions if runtime else ()))]
        if not path.is_file():
            digest.update(f'{name}\n'.encode())
            continue
        for file in files:
            digest.update(sha256_of(file).encode())
    return digest.hexdigest()


def _usual_size(options: PredictOptions) -> int:
    """Return how many images a part has where that was not said."""
    out = Path(options.out)
    return read_job(out).shard_size if options.resume and (out / JOB).exists() else _SHARD_SIZE


def _told_of_done(out: Path, job: JobDescription, done: Sequence[int]) -> int:
    """Say which parts that are there have images that failed; return the number of these images."""
    failures = {shard: failed for shard in done if (failed := failures_in(out, job, shard))}
    if failures:
        parts = shortlist([job.path(out, shard).name for shard in failures], 3)
        print(
            f'{count(sum(failures.values()), "image")} failed before, in {parts}; remove these files to try them again',
            file=sys.stderr,
        )
    return sum(failures.values())


def _left(out: Path, job: JobDescription, mine: Sequence[int], resume: bool) -> list[int]:
    """Return the parts of some that are not done yet.

    Raises:
        UserError: If some are done, and it was not said that this is meant.
    """
    left = [shard for shard in mine if not is_done(out, job, shard)]
    done = len(mine) - len(left)
    if done and not resume:
        told = f'--out {out}: {done} of {len(mine)} parts are there already'
        raise UserError(f'{told}; --resume continues with the others')
    return left


def _images(job: JobDescription, shard: int) -> range:
    """Return the places in the manifest of the images of a part."""
    return range(shard * job.shard_size, min((shard + 1) * job.shard_size, job.images))


def _placed(manifest: Manifest, job: JobDescription, shards: Sequence[int]) -> Iterator[Placed]:
    """Yield the images of some parts, in their order."""
    wanted, entries = set(shards), manifest.entries()
    for shard in range(job.shards):
        places = _images(job, shard)
        part = islice(entries, len(places))
        for image_id, entry in zip(places, part, strict=False):  # a folder's list may have become shorter
            if shard in wanted:
                yield Placed(image_id, entry)


def _written(
    predictor: Predictor, manifest: Manifest, job: JobDescription, shards: Sequence[int], out: Path
) -> Iterator[Outcome]:
    """Yield what became of each image, and write each part once it is whole.

    Raises:
        UserError: If a part cannot be written, or the list of images has become another one meanwhile.
    """
    records = []
    for outcome in predictor.stream(_placed(manifest, job, shards), lambda placed: placed.entry.read()):
        place: Placed = outcome.item
        records.append(record_of(job, place.entry.name, place.image_id, outcome.result, outcome.error))
        yield outcome
        places = _images(job, place.image_id // job.shard_size)
        if place.image_id == places[-1]:
            if len(records) != len(places):
                raise UserError('the list of images has changed since the start; predict again')
            write_shard(out, job, place.image_id // job.shard_size, records)
            records = []
