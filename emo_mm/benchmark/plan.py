"""What a benchmark measures: contestants, in groups that are measured turn by turn."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from emo_mm.benchmark.contestant import DTYPES, MODES, Contestant
from emo_mm.benchmark.options import BenchmarkOptions
from emo_mm.benchmark.runtimes import RUNTIMES, why_not
from emo_mm.benchmark.subjects import Size, find_subject
from emo_mm.benchmark.suites import SUITES, Suite
from emo_mm.errors import UserError


@dataclass(frozen=True)
class Group:
    """Contestants that are measured turn by turn: one mode, batch size and input size (or each model's own).

    Attributes:
        title: What it is called on the screen.
        contestants: Its contestants.
    """

    title: str
    contestants: tuple[Contestant, ...]


@dataclass(frozen=True)
class Plan:
    """A benchmark, ready to be run.

    Attributes:
        groups: The groups, in order.
        baseline: See :class:`BenchmarkOptions`.
        skipped: Combinations asked for that there are not, each with the reason.
    """

    groups: tuple[Group, ...]
    baseline: str
    skipped: tuple[str, ...] = field(default=())


def with_suite(options: BenchmarkOptions) -> BenchmarkOptions:
    """Return options with nothing left open: those of the suite where none were given.

    Raises:
        UserError: If there is no such suite, or no model, or an option has a value that is not allowed.
    """
    if bool(options.models) == bool(options.suite):
        raise UserError(f'name models to measure, or a suite: --suite {"|".join(SUITES)}')
    suite = Suite(options.models, ('eager', 'fused'), ('forward',), '')
    if options.suite:
        _check('suite', [options.suite], SUITES)
        suite = SUITES[options.suite]
        if options.device != 'cpu':
            suite = replace(suite, runtimes=(*suite.runtimes, 'cudagraphs'))
    options = replace(
        options,
        models=suite.models,
        runtimes=options.runtimes or suite.runtimes,
        modes=options.modes or suite.modes,
    )
    _check('runtime', options.runtimes, RUNTIMES)
    _check('mode', options.modes, MODES)
    _check('dtype', options.dtypes, DTYPES)
    numbers = {'batch': options.batches, 'threads': (options.threads,), 'rounds': (options.rounds,)}
    for name, values in numbers.items():
        if min(values) < 1:
            raise UserError(f'--{name} is {min(values)}; it must be at least 1')
    _check_device(options)
    if options.turn_seconds < 0:
        raise UserError(f'--seconds is {options.turn_seconds}; it must not be negative')
    return replace(options, baseline=options.baseline or _default_baseline(options, suite))


def make_plan(options: BenchmarkOptions, files: Sequence[str] = ()) -> Plan:
    """Return what to measure, after everything that can be checked without a model.

    Args:
        options: The options, as ``with_suite`` returns them.
        files: JPEG files, for ``e2e``.

    Raises:
        UserError: If a name is unknown, or nothing is left to measure.
    """
    subjects = [find_subject(name) for name in dict.fromkeys(options.models)]
    skipped: dict[str, None] = {}
    groups = []
    for mode, size, batch in itertools.product(options.modes, options.sizes or (None,), options.batches):
        contestants = []
        for subject, runtime, dtype in itertools.product(subjects, options.runtimes, options.dtypes):
            own_size = size or subject.size
            if own_size is None:
                raise UserError(f'the config of {subject.name} fixes no input size: give one with --size')
            contestant = Contestant(
                subject, runtime, mode, dtype, options.device, own_size, batch, options.threads, tuple(files)
            )
            reason = why_not(RUNTIMES[runtime], contestant)
            if reason:
                skipped[f'{subject.name} {runtime} {mode} {dtype}: {reason}'] = None
            else:
                contestants.append(contestant)
        if contestants:
            pixels = f'{size[0]}×{size[1]}' if size else 'published input sizes'
            groups.append(Group(f'{mode}, batch {batch}, {pixels}', tuple(contestants)))
    if not groups:
        raise UserError(f'nothing to measure: {"; ".join(skipped)}')
    every = [contestant for group in groups for contestant in group.contestants]
    if options.baseline not in {name for c in every for name in (c.runtime, c.subject.name)}:
        raise UserError(f'--baseline {options.baseline} is neither a runtime nor a model of what is measured')
    return Plan(tuple(groups), options.baseline, tuple(skipped))


def find_baseline(contestant: Contestant, group: Iterable[Contestant], baseline: str) -> Contestant | None:
    """Return what a contestant is compared with, the first dtype of it; None if its group lacks it."""
    return next((other for other in group if other.is_baseline_of(contestant, baseline)), None)


def parse_size(text: str) -> Size:
    """Return height and width for ``224`` or ``800x1344`` (height × width).

    Raises:
        UserError: If the text is neither.
    """
    parts = text.lower().replace('×', 'x').split('x')
    if len(parts) > 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise UserError(f'size {text!r}: it must be one number or HEIGHTxWIDTH, such as 224 or 800x1344')
    return int(parts[0]), int(parts[-1])


def jpeg_files(folder: str) -> tuple[str, ...]:
    """Return the JPEG files of a folder, sorted.

    Raises:
        UserError: If there is none.
    """
    path = Path(folder)
    files = (
        tuple(str(file) for file in sorted(path.iterdir()) if file.suffix.lower() in ('.jpg', '.jpeg'))
        if (path.is_dir())
        else ()
    )
    if not files:
        raise UserError(f'--images {folder}: no folder with JPEG files')
    return files


def _default_baseline(options: BenchmarkOptions, suite: Suite) -> str:
    if suite.baseline in (*options.runtimes, *options.models):
        return suite.baseline
    if len(options.runtimes) > 1:
        return 'reference' if 'reference' in options.runtimes else options.runtimes[0]
    return options.models[0]


def _check(what: str, given: Sequence[str], known: Iterable[str]) -> None:
    names = list(known)
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f'did you mean {near[0]}?' if near else f'it must be one of {", ".join(names)}'
            raise UserError(f'no {what} {name!r}: {hint}')


def _check_device(options: BenchmarkOptions) -> None:
    import torch

    kind = options.device.split(':')[0]
    if kind not in ('cpu', 'cuda'):
        raise UserError(f'--device is {options.device!r}; it must be cpu, cuda or cuda:N')
    if kind == 'cuda' and not torch.cuda.is_available():
        raise UserError(f'--device {options.device}: torch {torch.__version__} sees no CUDA device')
    if kind == 'cpu' and (wrong := [dtype for dtype in options.dtypes if dtype in ('fp16', 'tf32')]):
        raise UserError(f'--dtype {wrong[0]} is for GPUs; on a CPU use fp32 or bf16')
