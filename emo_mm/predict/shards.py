"""A prediction over many images in parts: what each part is, and its file.

``DIR/job.json`` says what is predicted with what, ``DIR/shards/part-000000.parquet`` holds the results of the first
images of the manifest, and so on. A file is there complete or not at all, and a part that is there is done.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from emo_mm.errors import UserError
from emo_mm.files import atomic_write, write_json
from emo_mm.predict.manifest import pyarrow_parquet
from emo_mm.runtime.results import Classification, Detections, Result, Segmentation

SCHEMA = 1  # of the columns; a number of its own, so that readers can tell
JOB, SHARDS = 'job.json', 'shards'
_JOB_KEY = b'emo_mm.job'  # in a shard's metadata: which job it is of


@dataclass(frozen=True)
class JobDescription:
    """What is predicted with what; two runs that differ in any of it are different jobs.

    Attributes:
        schema: Version of the columns.
        manifest: Hash of the names of the images.
        images: Their number.
        shard_size: Images in each part, the last one excepted.
        model: Hash of the model's file, and of its weights where these have one of their own.
        kind: What the columns hold: a key of ``COLUMNS``.
        classes: Names of the classes.
        score_threshold: What boxes had to score more than; None where there are none.
    """

    schema: int
    manifest: str
    images: int
    shard_size: int
    model: str
    kind: str
    classes: tuple[str, ...]
    score_threshold: float | None

    @property
    def shards(self) -> int:
        """The number of parts."""
        return -(-self.images // self.shard_size)

    @property
    def id(self) -> str:
        """All of it in one text."""
        return json.dumps(asdict(self), sort_keys=True)

    def path(self, out: Path, shard: int) -> Path:
        """Return the file of a part; its name depends on the manifest alone."""
        return out / SHARDS / f'part-{shard:06d}.parquet'


@dataclass(frozen=True)
class Row:
    """A row of a shard.

    Attributes:
        path: What the manifest calls the image.
        image_id: Its place in the manifest, from 0; the same whatever fails.
        result: What was predicted, without the masks of objects; None where it failed.
        error: Why it failed.
        outlines: RLE of each object, of models that find them.
    """

    path: str
    image_id: int
    result: Result | None
    error: str | None = None
    outlines: list[dict[str, Any]] | None = None


def open_job(out: Path, job: JobDescription) -> None:
    """Note a job in its folder; processes of one job may do so at the same moment.

    Args:
        out: The folder, made if need be.
        job: The job.

    Raises:
        UserError: If the folder holds another job, or cannot be written.
    """
    try:
        (out / SHARDS).mkdir(parents=True, exist_ok=True)
        if not (out / JOB).exists():
            write_json(out / JOB, asdict(job))
    except OSError as error:
        raise UserError(f'--out {out}: cannot be written: {error.strerror}') from None
    there = read_job(out)
    if there != job:
        differing = [_difference(name, value, getattr(job, name)) for name, value in asdict(there).items()]
        raise UserError(
            f'{out / JOB} is of another job, with {", ".join(filter(None, differing))}; give another --out, or remove '
            'that folder'
        )


def read_job(out: Path) -> JobDescription:
    """Return the job of a folder.

    Raises:
        UserError: If it has none.
    """
    path = out / JOB
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
        job = JobDescription(**{**content, 'classes': tuple(content['classes'])})
    except FileNotFoundError:
        raise UserError(f'{out}: has no {JOB}; emo-mm predict --save-parquet --out {out} writes it') from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f'{path}: is no description of a job ({error})') from None
    if job.schema != SCHEMA or job.kind not in COLUMNS:
        raise UserError(f'{path}: is of version {job.schema}; this version of emo-mm reads {SCHEMA}')
    return job


def is_done(out: Path, job: JobDescription, shard: int) -> bool:
    """Tell whether a part is there.

    Raises:
        UserError: If its file is of another job or cannot be read.
    """
    path = job.path(out, shard)
    if not path.exists():
        return False
    parquet = pyarrow_parquet(str(path))
    try:
        metadata = parquet.read_schema(path).metadata or {}
    except (OSError, ValueError) as error:
        raise UserError(f'{path}: cannot be read ({error}); remove it, and predict with --resume') from None
    if metadata.get(_JOB_KEY) != job.id.encode():
        raise UserError(f'{path}: is of another job; give another --out, or remove it')
    return True


def record_of(
    job: JobDescription, path: str, image_id: int, result: Result | None, error: str | None
) -> dict[str, Any]:
    """Return a row as it is written; it holds no pixels, so that a whole part of them takes little memory.

    Args:
        job: The job.
        path: What the manifest calls the image.
        image_id: Its place in the manifest, from 0.
        result: What was predicted; None where it failed.
        error: Why it failed.
    """
    values = {} if result is None else COLUMNS[job.kind].values(result)
    return {'path': path, 'image_id': image_id, 'error': error, **values}


def write_shard(out: Path, job: JobDescription, shard: int, records: Sequence[Mapping[str, Any]]) -> None:
    """Write a part, complete or not at all.

    Args:
        out: Folder of the job.
        job: The job.
        shard: Number of the part, from 0.
        records: Its rows, as :func:`record_of` makes them.

    Raises:
        UserError: If it cannot be written.
    """
    path = job.path(out, shard)
    parquet = pyarrow_parquet(str(path))
    import pyarrow

    types = {'path': pyarrow.string(), 'image_id': pyarrow.int64(), 'error': pyarrow.string()}
    types |= COLUMNS[job.kind].types(pyarrow)
    schema = pyarrow.schema(list(types.items()), metadata={_JOB_KEY: job.id.encode()})
    table = pyarrow.Table.from_pylist(list(records), schema=schema)
    try:
        with atomic_write(path) as file:
            parquet.write_table(table, file)
    except OSError as error:
        raise UserError(f'{path}: cannot be written: {error.strerror or error}') from None


def failures_in(out: Path, job: JobDescription, shard: int) -> int:
    """Return how many images of a part that is there failed."""
    errors = pyarrow_parquet(JOB).read_table(job.path(out, shard), columns=['error']).column(0)
    return len(errors) - int(errors.null_count)


def read_shard(out: Path, job: JobDescription, shard: int) -> list[Row]:
    """Return the rows of a part.

    Raises:
        UserError: If it is not there, or of another job.
    """
    path = job.path(out, shard)
    if not is_done(out, job, shard):
        raise UserError(f'{path}: is not there')
    table = pyarrow_parquet(str(path)).read_table(path)
    result_of = COLUMNS[job.kind].result
    return [
        Row(
            one['path'],
            one['image_id'],
            None if one['error'] is not None else result_of(one),
            one['error'],
            one.get('masks'),
        )
        for one in table.to_pylist()
    ]


# --- columns
@dataclass(frozen=True)
class Columns:
    """The columns of a kind of result.

    Attributes:
        types: Returns their types, given ``pyarrow``.
        values: Returns their values for a result.
        result: Returns the result of their values.
    """

    types: Callable[[Any], dict[str, Any]]
    values: Callable[[Any], dict[str, Any]]
    result: Callable[[Mapping[str, Any]], Result]


def _difference(name: str, there: Any, wanted: Any) -> str:
    """Return in words how two jobs differ in something; nothing where they do not."""
    if there == wanted:
        return ''
    words = {'manifest': 'list of images', 'kind': 'kind of results'}.get(name, name.replace('_', ' '))
    return f'{words} {there} for {wanted}' if isinstance(there, int | float) else f'another {words}'


def _box_types(arrow: Any) -> dict[str, Any]:
    return {
        'boxes': arrow.list_(arrow.list_(arrow.float32(), 4)),
        'scores': arrow.list_(arrow.float32()),
        'labels': arrow.list_(arrow.int32()),
    }


def _object_types(arrow: Any) -> dict[str, Any]:
    rle = arrow.struct([('size', arrow.list_(arrow.int32())), ('counts', arrow.string())])
    return {**_box_types(arrow), 'masks': arrow.list_(rle)}


def _box_values(found: Detections) -> dict[str, Any]:
    return {'boxes': found.boxes.tolist(), 'scores': found.scores.tolist(), 'labels': found.labels.tolist()}


def _object_values(found: Detections) -> dict[str, Any]:
    masks = found.masks
    assert masks is not None  # of an instance segmenter
    return {**_box_values(found), 'masks': [masks.rle(index) for index in range(len(found.labels))]}


def _boxes(values: Mapping[str, Any]) -> Detections:
    return Detections(
        np.array(values['boxes'], np.float32).reshape(-1, 4),  # K x 4 numbers -> (K, 4)
        np.array(values['scores'], np.float32),
        np.array(values['labels'], np.int64),
    )


def _picture(labels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(labels).save(buffer, format='PNG')
    return buffer.getvalue()


def _labels(values: Mapping[str, Any]) -> Segmentation:
    with Image.open(io.BytesIO(values['mask'])) as picture:
        return Segmentation(np.asarray(picture))


def _probabilities(values: Mapping[str, Any]) -> Classification:
    return Classification(np.array(values['probabilities'], np.float32))


COLUMNS: dict[str, Columns] = {
    'boxes': Columns(_box_types, _box_values, _boxes),
    'objects': Columns(_object_types, _object_values, _boxes),
    'labels': Columns(lambda arrow: {'mask': arrow.binary()}, lambda found: {'mask': _picture(found.labels)}, _labels),
    'probabilities': Columns(
        lambda arrow: {'probabilities': arrow.list_(arrow.float32())},
        lambda found: {'probabilities': found.probabilities.tolist()},
        _probabilities,
    ),
}
