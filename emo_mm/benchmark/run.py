"""``emo-mm benchmark``: from options to files."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from PIL import Image

from emo_mm.benchmark.contest import inspect_all, measure
from emo_mm.benchmark.contestant import Contestant
from emo_mm.benchmark.machine import describe_machine
from emo_mm.benchmark.picture import pictures
from emo_mm.benchmark.plan import BenchmarkOptions, Plan, jpeg_files, make_plan, with_suite
from emo_mm.benchmark.results import Results, make_rows, markdown, read_json, round_medians, write_csv, write_json
from emo_mm.benchmark.worker import Inspection


def run_benchmark(options: BenchmarkOptions) -> Results:
    """Measure, print progress and the tables, and write CSV, JSON, Markdown and pictures to ``options.out``.

    Raises:
        UserError: If an option is wrong, or a model cannot take its input.
    """
    options = with_suite(options)
    machine = asdict(describe_machine(options.device))
    with tempfile.TemporaryDirectory() as temporary:
        files: tuple[str, ...] = ()
        if 'e2e' in options.modes:
            files = jpeg_files(options.images or _generate_images(temporary))
        plan = make_plan(options, files)
        inspections = inspect_all(plan, _report)
        plan = _without_misfits(plan, inspections)
        for line in plan.skipped:
            _report(f'not measured: {line}')
        complexities = {contestant: found.complexity for contestant, found in inspections.items()}
        rows, rounds = [], []
        for number, group in enumerate(plan.groups, 1):
            _report(f'[{number}/{len(plan.groups)}] {group.title}: {len(group.contestants)} contestants')
            measurements = measure(group, options.rounds, options.turn_seconds, _report)
            rows += make_rows(measurements, complexities, plan.baseline)
            rounds += [round_medians(measurement) for measurement in measurements]
    results = Results(machine, asdict(options), tuple(rows), tuple(rounds), plan.skipped)
    write_results(results, Path(options.out))
    return results


def show_results(file: str, out: str) -> Results:
    """Write and print the tables and pictures of results that were measured before.

    Raises:
        UserError: If the file has no results.
    """
    results = read_json(Path(file))
    write_results(results, Path(out))
    return results


def write_results(results: Results, folder: Path) -> None:
    """Write all files of results, and print the tables."""
    folder.mkdir(parents=True, exist_ok=True)
    name = results_name(results)
    write_csv(results, folder / f'{name}.csv')
    write_json(results, folder / f'{name}.json')
    (folder / f'{name}.md').write_text(markdown(results), encoding='utf-8')
    files = [f'{name}.{suffix}' for suffix in ('csv', 'json', 'md')]
    drawn = folder / name
    drawn.mkdir(exist_ok=True)
    files += [f'{name}/{path.name}' for path in pictures(results, drawn)]
    if not any(drawn.iterdir()):
        drawn.rmdir()
    _report(markdown(results))
    _report(f'written to {folder}: {", ".join(files)}')


def results_name(results: Results) -> str:
    """Return a file name made of the conditions: suite or models, device, threads, dtypes."""
    settings = results.settings
    models = settings['suite'] or '-'.join(Path(name).stem for name in settings['models'][:4])
    device = 'cpu' if settings['device'] == 'cpu' else results.machine['gpu'].replace(' ', '_')
    threads = f'_{settings["threads"]}threads' if device == 'cpu' else ''
    return f'{models}_{device}{threads}_{"-".join(settings["dtypes"])}'


def _without_misfits(plan: Plan, inspections: dict[Contestant, Inspection]) -> Plan:
    """Return a plan without the peers whose norms cannot be folded; they are listed as skipped."""

    def fits(contestant: Contestant) -> bool:
        return contestant.runtime != 'fused' or not inspections[contestant].cannot_fold

    every = [contestant for group in plan.groups for contestant in group.contestants]
    misfits = {f'{c.subject.name} fused: {inspections[c].cannot_fold}': None for c in every if not fits(c)}
    groups = [replace(g, contestants=tuple(c for c in g.contestants if fits(c))) for g in plan.groups]
    return replace(plan, groups=tuple(g for g in groups if g.contestants), skipped=(*plan.skipped, *misfits))


def _generate_images(folder: str, number: int = 16) -> str:
    """Write JPEG files of 640×480 with smooth patterns; return their folder."""
    generator = np.random.default_rng(0)
    for i in range(number):
        coarse = Image.fromarray(generator.integers(0, 256, (60, 80, 3), dtype=np.uint8))
        coarse.resize((640, 480), Image.Resampling.BICUBIC).save(Path(folder) / f'{i:02}.jpg', quality=90)
    return folder


def _report(line: str) -> None:
    print(line, flush=True)
