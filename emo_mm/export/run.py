"""Exporting: from a config or checkpoint to a checked file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from emo_mm.errors import UserError, first_line
from emo_mm.export.check import TOLERANCES, Found, Run, Tolerance, check, images_in, input_of
from emo_mm.export.formats import FORMATS, Format, format_like
from emo_mm.export.graph import Graph
from emo_mm.export.job import Job
from emo_mm.export.options import AXES, ExportOptions, description, natural_size
from emo_mm.export.traceable import FixedAnchors, deploy_form
from emo_mm.files import atomic_write
from emo_mm.runtime.metadata import Metadata
from emo_mm.runtime.runtimes import RUNTIMES
from emo_mm.runtime.seal import seal, sidecar
from emo_mm.runtime.sessions import open_session
from emo_mm.tasks import TASKS

if TYPE_CHECKING:
    from emo_mm.predict.loading import LoadedModel

CHECKED_IMAGES = 8
CALIBRATION_IMAGES = 32
TRACED = (456, 488)  # least height and width to trace open axes at: every map has several pixels and windows


@dataclass(frozen=True)
class Exported:
    """What became of an export.

    Attributes:
        path: The file.
        metadata: Its description.
        bytes: Its size, with what belongs to it.
        found: What the check found; None where the format cannot run here.
    """

    path: Path
    metadata: Metadata
    bytes: int
    found: Found | None


def export(options: ExportOptions) -> Exported:
    """Export a model, check the file in its runtime, and print what was found.

    Raises:
        UserError: If an option does not fit, the model cannot be exported, or the file answers differently from
            PyTorch. The file stays.
    """
    from emo_mm.predict.loading import load_for_prediction

    check_options(options)
    loaded = load_for_prediction(options.model, options.weights)
    exported = export_loaded(loaded, options)
    if options.data_root is not None and options.precision != 'float32':
        _print_metrics(loaded, options, exported)
    return exported


def check_options(options: ExportOptions) -> Format:
    """Return the format of an export, before anything slow.

    Raises:
        UserError: If there is no such format, it is not installed, or it cannot do what is asked for.
    """
    kind = FORMATS.get(options.format)
    if kind is None:
        near = format_like(options.format)
        hint = '' if near is None else f'; did you mean {near}?'
        raise UserError(f'--format {options.format}: it must be one of {", ".join(FORMATS)}{hint}')
    closed = [axis for axis in options.axes if axis not in kind.axes]
    if closed:
        raise UserError(f'--dynamic {",".join(closed)}: {options.format} files have a fixed size; use onnx or openvino')
    if options.precision not in ('float32', *kind.precisions):
        raise _not_with(options, f'--{options.precision}', lambda other: options.precision in other.precisions)
    if options.nms == 'graph' and not kind.takes_nms:
        raise _not_with(options, '--nms graph', lambda other: other.takes_nms)
    if options.data_root is not None and not kind.runtime.session:
        raise _not_with(options, '--data-root', lambda other: bool(other.runtime.session))
    kind.check_available()
    if options.precision == 'int8' and find_spec('nncf') is None:
        raise UserError("--int8 needs nncf: pip install 'emo-mm[int8]'")
    return kind


def _not_with(options: ExportOptions, flag: str, able: Callable[[Format], bool]) -> UserError:
    names = [name for name, other in FORMATS.items() if able(other)]
    return UserError(f'{flag}: not with --format {options.format}, but with {", ".join(names)}')


def export_loaded(loaded: LoadedModel, options: ExportOptions) -> Exported:
    """Export a model that is built, as :func:`export` does.

    Raises:
        UserError: As :func:`export`.
    """
    kind = check_options(options)
    if options.precision == 'int8' and options.images is None:
        print(
            'WARNING: --int8 without --calibration DIR is calibrated and checked on random images, so the answers on '
            'photographs may be wrong without a word; give a folder of photographs',
            flush=True,
        )
    job, reference, size = prepare(loaded, options)
    if job.metadata.output.kind == 'labels' and not kind.takes_argmax:
        raise UserError(f'--format {options.format}: cannot tell the best class of a pixel; add --logits')
    if job.graph.network.exported == job.graph.network.selected and not kind.takes_nms:
        able = ', '.join(name for name, other in FORMATS.items() if other.takes_nms)
        raise UserError(
            f'--format {options.format}: {loaded.name} selects boxes between its stages, which {able} files can do'
        )
    path = Path(options.out) if options.out else Path(_name(job.metadata, options, size) + kind.suffix)
    if path.suffix != kind.suffix:
        raise UserError(f'--out {path}: files of the format {options.format} end in {kind.suffix}')
    images = images_in(options.images, CHECKED_IMAGES)
    metadata = job.metadata
    shape = ' x '.join(f'{axis} {getattr(metadata.input, axis) or "any"}' for axis in AXES)
    print(f'{metadata.model}: {metadata.input.dtype} {metadata.input.layout}, {shape} -> {metadata.output.kind}')
    write(kind, job, path)
    exported = Exported(path, metadata, kind.size(path), None)
    print(f'wrote {path} ({exported.bytes / 1e6:.1f} MB)', flush=True)
    if not kind.runtime.session:
        print(f'not checked: {kind.runtime.needs}')
        return exported
    print(f'checked against PyTorch on {"photographs" if options.images else "random images"}:')
    found = _checked(path, reference, images, size, tolerance(options), options.threads)
    return replace(exported, found=found)


def open_checked(path: Path, metadata: Metadata, threads: int | None, batch: int | None = None) -> Run:
    """Open a file as prediction does, and check that it describes itself as it should.

    Args:
        path: The file.
        metadata: The description that was written.
        threads: Threads of the runtime; all cores if None.
        batch: Images at once, if they are always as many.

    Raises:
        UserError: If it cannot be opened, or its description came back changed.
    """
    session = open_session(path, threads, batch)
    if session.metadata != metadata:
        raise UserError(f'{path}: its description came back changed')
    return session.run


def _checked(
    path: Path,
    reference: Graph,
    images: Sequence[np.ndarray],
    size: tuple[int, int],
    limit: Tolerance,
    threads: int | None,
) -> Found:
    """Compare a file with PyTorch, and print what is found case by case.

    Raises:
        UserError: If it cannot be opened, fails, or answers differently.
    """
    metadata = reference.metadata
    outcomes = check(open_checked(path, metadata, threads, metadata.input.batch), reference, images, size)
    total, failed = Found(), []
    while True:
        try:
            batch, case, found = next(outcomes)
        except StopIteration:
            break
        except Exception as error:
            raise UserError(
                f'{path}: fails in its runtime{_open_axes(metadata)}: {first_line(error, with_type=True)}'
            ) from error
        print(f'  {batch} x {case[0]}x{case[1]}: {describe(found, metadata)}', flush=True)
        total.add(found)
        if not found.within(limit):
            failed.append(f'{batch} x {case[0]}x{case[1]}')
    if failed:
        raise UserError(
            f'{path}: answers differ from PyTorch at {", ".join(failed)}{_open_axes(metadata)}: '
            f'{describe(total, metadata)}; '
            f'tolerated are a relative error of {limit.error:g} and {limit.agreement:.1%} agreement'
        )
    return total


def prepare(loaded: LoadedModel, options: ExportOptions) -> tuple[Job, Graph, tuple[int, int]]:
    """Return what an exporter gets, the network to compare with, and the height and width to trace at.

    Raises:
        UserError: If an option does not fit the model.
    """
    from emo_mm.predict.describe import preprocessing_of

    size = options.size or natural_size(preprocessing_of(loaded.cfg))
    fixed = not {'height', 'width'} & set(options.axes)
    form = deploy_form(loaded.model, size if fixed else None)
    anchors = getattr(getattr(form, 'bbox_head', None), 'prior_generator', None)
    metadata = description(loaded, options, anchors.counts if isinstance(anchors, FixedAnchors) else None)
    # An open axis that is 1, as are a batch of one and the last maps of small images, would be taken for always 1.
    images = images_in(None, metadata.input.batch or 2)
    height, width = (
        side if axis not in options.axes else max(side, least)
        for axis, side, least in zip(AXES[1:], size, TRACED, strict=True)
    )
    example = torch.from_numpy(input_of(images, (height, width), metadata))
    calibration = []
    if options.precision == 'int8':
        photographs = images_in(options.images, CALIBRATION_IMAGES)
        calibration = [input_of(_repeated([image], metadata.input.batch or 1), size, metadata) for image in photographs]
    return Job(Graph(form, metadata), example, options.precision, calibration), Graph(loaded.model, metadata), size


def write(kind: Format, job: Job, path: Path) -> None:
    """Write a file, and its description beside it where there is no room inside.

    Raises:
        UserError: If it cannot be written, or the exporter fails.
    """
    _check_companions(kind, path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        kind.write(job, path)
        if kind.runtime.checksum == 'sidecar':
            with atomic_write(sidecar(path)) as file:
                file.write(job.metadata.to_json().encode())
        seal(path)
    except UserError:
        raise
    except OSError as error:
        raise UserError(f'{path}: cannot be written: {error.strerror or error}') from error
    except Exception as error:  # each exporter has its own
        raise UserError(
            f'{job.metadata.model} cannot be exported{_open_axes(job.metadata)}: {first_line(error, with_type=True)}'
        ) from error


def _check_companions(kind: Format, path: Path) -> None:
    """Check that a file's companions would not take the place of another file's.

    Raises:
        UserError: If they would.
    """
    for suffix in kind.runtime.companions:
        for other in RUNTIMES.values():
            theirs = path.with_suffix(other.suffix)
            if other.suffix != kind.suffix and suffix in other.companions and theirs.exists():
                raise UserError(
                    f'{path}: {path.with_suffix(suffix).name} beside it belongs to {theirs.name}; give another name '
                    'with --out'
                )


def tolerance(options: ExportOptions) -> Tolerance:
    """Return what the check of an export lets pass."""
    usual = TOLERANCES[options.precision]
    return usual if options.tolerance is None else replace(usual, error=options.tolerance)


def describe(found: Found, metadata: Metadata) -> str:
    """Return what a check found, in words."""
    error = f'largest error {found.error:.2g} ({found.relative:.1g} of the largest value)'
    ties = (
        f'; {found.ties} others tie with the last that is kept, where which ones stay is chance' if found.ties else ''
    )
    return f'{error}, {found.agreement:.2%} of {found.total} {TASKS[metadata.task].agreement}{ties}'


def _print_metrics(loaded: LoadedModel, options: ExportOptions, exported: Exported) -> None:
    """Print a metric in float32 and in the precision of a file, both in the file's runtime."""
    import tempfile

    from emo_mm.data.splits import DataRequest
    from emo_mm.engine.options import EvaluateOptions
    from emo_mm.engine.test import evaluate

    with tempfile.TemporaryDirectory() as folder:
        whole = replace(options, half=False, int8=False, out=str(Path(folder) / f'float32{exported.path.suffix}'))
        kind = check_options(whole)
        write(kind, prepare(loaded, whole)[0], Path(str(whole.out)))
        metrics = []
        for path in (str(whole.out), str(exported.path)):
            data = DataRequest(data_root=options.data_root)
            metrics.append(evaluate(EvaluateOptions(loaded.name, folder, data=data, workers=0, checkpoint=path)))
    experimental = ' (experimental)' if options.int8 else ''
    for name, before in metrics[0].items():
        after = metrics[1][name]
        print(
            f'{name}: float32 {before:.4f}, {options.precision}{experimental} {after:.4f}, change {after - before:+.4f}'
        )


def _name(metadata: Metadata, options: ExportOptions, size: tuple[int, int]) -> str:
    side = f'{size[0]}' if size[0] == size[1] else f'{size[0]}x{size[1]}'
    return f'{metadata.model}_{side}' + (f'_{options.precision}' if options.precision != 'float32' else '')


def _open_axes(metadata: Metadata) -> str:
    names = ','.join(axis for axis in AXES if getattr(metadata.input, axis) is None)
    return f' with --dynamic {names}, which is refused' if names else ''


def _repeated(images: list[np.ndarray], count: int) -> list[np.ndarray]:
    return [images[i % len(images)] for i in range(count)]
