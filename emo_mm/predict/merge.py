"""What ``emo-mm merge`` does: one file of results from the parts of a job."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from emo_mm.data.splits import count, shortlist
from emo_mm.errors import UserError
from emo_mm.files import atomic_write
from emo_mm.predict.options import MergeOptions
from emo_mm.predict.outputs import CocoIds, Entries
from emo_mm.predict.shards import Row, is_done, read_job, read_shard

_WEAK = 0.05  # score of boxes that evaluations still look at


def merge(options: MergeOptions) -> int:
    """Write ``results.json`` and ``errors.txt`` from the parts of a job, one part in memory at a time.

    Args:
        options: The folder of the job, and where the numbers of images and classes come from.

    Returns:
        0, or 1 if images failed.

    Raises:
        UserError: If parts are missing, or a file cannot be read or written.
    """
    out = Path(options.out)
    job = read_job(out)
    missing = [str(shard) for shard in range(job.shards) if not is_done(out, job, shard)]
    if missing:
        raise UserError(
            f'{out}: {len(missing)} of {job.shards} parts are missing: {shortlist(missing, 5)}; the command that began '
            'this job makes them with --resume'
        )
    entries = Entries(job.classes, CocoIds(options.coco_ids, job.classes))
    failed, first = 0, True
    if options.coco_ids is not None and (job.score_threshold or 0) > _WEAK:
        print(
            f'warning: the parts lack boxes that score {job.score_threshold:g} or less, which an evaluation needs; '
            f'predict with --score-threshold {_WEAK} or less for it',
            file=sys.stderr,
        )
    try:
        with atomic_write(out / 'results.json') as results, atomic_write(out / 'errors.txt') as errors:
            results.write(b'[')
            for shard in range(job.shards):
                for row in read_shard(out, job, shard):
                    try:
                        found = _entries_of(row, entries)
                    except UserError as error:
                        errors.write(f'{error}\n'.encode(errors='surrogateescape'))
                        failed += 1
                        continue
                    for entry in found:
                        results.write((b'' if first else b', ') + json.dumps(entry).encode())
                        first = False
            results.write(b']')
    except OSError as error:
        raise UserError(f'{out}: cannot be written: {error.strerror or error}') from None
    listed = f', listed in {out / "errors.txt"}' if failed else ''
    print(f'{count(job.images - failed, "image")} in {out / "results.json"}, {failed} failed{listed}', file=sys.stderr)
    return 1 if failed else 0


def _entries_of(row: Row, entries: Entries) -> list[dict[str, Any]]:
    """Return the entries of an image.

    Raises:
        UserError: If it has no result, or the numbers are not known.
    """
    if row.result is None:
        raise UserError(row.error or row.path)
    return entries.of(row.path, row.image_id + 1, row.result, outlines=row.outlines)
