"""The report of a training or a test: one page to read, and the same as JSON and CSV."""

from __future__ import annotations

import datetime
import platform
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from emo_mm.config.view import task_of
from emo_mm.engine.reports.base import Predicted
from emo_mm.engine.reports.rows import report_of
from emo_mm.files import write_json
from emo_mm.report.analysis import Analysis
from emo_mm.report.page import Cell, Figure, Page, Picture, Section, Table, write_csv, write_page
from emo_mm.tasks import Task
from emo_mm.version import __version__

if TYPE_CHECKING:
    from mmengine.runner import Runner

# Metrics as people call them.
METRIC_NAMES = {
    'coco/bbox_mAP': 'AP',
    'coco/bbox_mAP_50': 'AP50',
    'coco/bbox_mAP_75': 'AP75',
    'coco/bbox_mAP_s': 'AP, small boxes',
    'coco/bbox_mAP_m': 'AP, medium boxes',
    'coco/bbox_mAP_l': 'AP, large boxes',
    'coco/segm_mAP': 'mask AP',
    'coco/segm_mAP_50': 'mask AP50',
    'coco/segm_mAP_75': 'mask AP75',
    'coco/segm_mAP_s': 'mask AP, small objects',
    'coco/segm_mAP_m': 'mask AP, medium objects',
    'coco/segm_mAP_l': 'mask AP, large objects',
    'accuracy/top1': 'top-1 (%)',
    'accuracy/top5': 'top-5 (%)',
    'mIoU': 'mIoU (%)',
    'mAcc': 'mean accuracy (%)',
    'aAcc': 'pixel accuracy (%)',
}
_PACKAGES = ('mmengine', 'mmcv', 'mmdet', 'mmsegmentation', 'mmpretrain')  # or with the prefix of the maintained forks
_COMMANDS = ('emo-mm', 'train.py', 'test.py', 'cli.py')


@dataclass(frozen=True)
class Run:
    """A run that is reported.

    Attributes:
        runner: Its runner.
        kind: ``training`` or ``test``.
        images: What the images are called: ``validation`` or ``test``.
        metrics: Its metrics, as the toolbox names them.
        lines: What was printed about the data and the decisions taken.
        facts: What else it was, by name.
        pictures: Pictures of its course.
        threshold: Score threshold that the model came with.
    """

    runner: Runner
    kind: str
    images: str
    metrics: dict[str, float]
    lines: Sequence[str]
    facts: tuple[tuple[str, Cell], ...]
    pictures: tuple[Picture, ...] = ()
    threshold: float | None = None


def write_report(
    run: Run, predicted: Predicted, failed: str, name: str, sheet: str | None, worst_sheet: str
) -> float | None:
    """Write ``<name>.html``, ``<name>.json`` and ``<name>.csv`` into the work directory, and sheets of pictures.

    What cannot be analysed is left out of the page, which says so.

    Args:
        run: The run.
        predicted: Its images with their predictions.
        failed: Why predictions could not be recorded; empty if they could.
        name: Name of the files.
        sheet: Name of the picture of images evenly chosen; None for none.
        worst_sheet: Name of the picture of the worst images.

    Returns:
        The score threshold from which on boxes are counted; None where there are no scores.
    """
    folder, task = Path(run.runner.work_dir), report_of(task_of(run.runner.cfg))
    try:
        if failed or not predicted.records:
            raise ValueError(failed or 'there were no images')
        records = task.complete(predicted.records, predicted.dataset)
        analysis = task.analyse(records, predicted.classes, run.threshold)
    except (KeyError, ValueError, AttributeError, IndexError, TypeError) as error:
        # data of a kind that no recipe of ours has; the training is done, and shall end as one
        why = str(error) if isinstance(error, ValueError) else f'{type(error).__name__} {error}'
        run.runner.logger.warning(f'the report has no figures of single images and classes: {why}')
        write_page(_page(run, len(predicted.records), None, (), why), folder / f'{name}.html')
        return None
    predicted = Predicted(predicted.dataset, predicted.model, records, analysis.threshold)
    pictures = []
    if sheet is not None:
        task.sheet(predicted, predicted.spread(task.sheet_images), folder / sheet, folder.name)
    if analysis.worst:
        task.sheet(predicted, [one.index for one in analysis.worst], folder / worst_sheet, 'the worst')
        caption = 'Truth beside prediction, the worst first; drawn as far as they count.'
        pictures.append(Picture.of_file(folder / worst_sheet, 'The worst images', caption))
    worst = tuple((_below(predicted.dataset, records[one.index].path), one.words) for one in analysis.worst)
    page = _page(run, len(records), analysis, worst, '', tuple(pictures))
    write_page(page, folder / f'{name}.html')
    write_json(folder / f'{name}.json', _content(run, analysis, worst))
    write_csv(analysis.per_class.columns, analysis.per_class.rows, folder / f'{name}.csv')
    return analysis.threshold


def _page(
    run: Run,
    images: int,
    analysis: Analysis | None,
    worst: Sequence[tuple[str, str]],
    failed: str,
    pictures: tuple[Picture, ...] = (),
) -> Page:
    task = task_of(run.runner.cfg)
    config = Path(run.runner.cfg.filename).stem
    tiles = [Figure(_called(key, task), run.metrics[key]) for key in task.metrics if key in run.metrics]
    tiles.append(Figure(f'{run.images} images', images))
    if analysis is not None and analysis.threshold is not None:
        tiles.append(Figure('score threshold', round(analysis.threshold, 2)))
    others = [(_called(key, task), value) for key, value in run.metrics.items()]
    figures = Table(('metric', run.images), tuple(others), 'Metrics', 'As the toolbox computes them.')
    sections = []
    if analysis is not None:
        sections.append(
            Section('Classes', analysis.notes, tables=(analysis.per_class, figures, *_filled(analysis.tables)))
        )
        sections.append(Section('Charts', pictures=analysis.pictures))
        listed = Table(('image', 'mistakes'), tuple(worst))
        none = () if worst else ('No image was predicted with a mistake.',)
        sections.append(Section('Worst images', none, tables=_filled((listed,)), pictures=pictures))
    else:
        words = f'Single images and classes could not be analysed: {failed}.'
        sections.append(Section('Metrics', (words,), tables=(figures,)))
    if run.pictures:
        sections.append(Section('Training', pictures=run.pictures))
    sections.append(Section('Data', lines=tuple(run.lines) or ('the data that the config names',)))
    facts = Table(('', ''), (*run.facts, *versions().items()))
    sections.append(Section('Run', (f'Work directory: {run.runner.work_dir}',), (command(),), tables=(facts,)))
    moment = datetime.datetime.now().astimezone().strftime('%Y-%m-%d %H:%M %Z')
    subtitle = f'{task.noun} · {run.images} images · {moment}'
    return Page(f'{run.kind.capitalize()} of {config}', subtitle, tuple(tiles), tuple(sections))


def _called(key: str, task: Task) -> str:
    """Return what people call a metric; that of boxes is named so where there are masks beside them."""
    return f'{"box " if task.finds_outlines and "bbox" in key else ""}{METRIC_NAMES.get(key, key)}'


def _below(dataset: Any, path: str) -> str:
    """Return a path as seen from the root of the data set, where it lies below that."""
    root = getattr(dataset, 'data_root', None) or path  # a set of several data sets has none
    return Path(path).relative_to(root).as_posix() if root != path and Path(path).is_relative_to(root) else path


def _filled(tables: Sequence[Table]) -> tuple[Table, ...]:
    """Return the tables that have rows."""
    return tuple(table for table in tables if table.rows)


def _content(run: Run, analysis: Analysis, worst: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return what the JSON file holds: what the page shows, with all figures in full."""
    return {
        'config': Path(run.runner.cfg.filename).stem,
        **dict(run.facts),
        'images': run.images,
        'metrics': run.metrics,
        'threshold': analysis.threshold,
        'classes': _rows(analysis.per_class),
        'tables': {table.title: _rows(table) for table in analysis.tables},
        'worst': [{'image': image, 'mistakes': words} for image, words in worst],
        **analysis.data,
        'data': list(run.lines),
        'command': command(),
        'versions': versions(),
    }


def _rows(table: Table) -> list[dict[str, Cell]]:
    # JSON has no NaN
    return [
        {key: None if value != value else value for key, value in zip(table.columns, row, strict=True)}
        for row in table.rows
    ]


def command() -> str:
    """Return the command that repeats this run, as it was given; what to do instead where it was no command of ours."""
    name = Path(sys.argv[0]).name
    if name not in _COMMANDS:
        return f'{name} (a program of its own: emo_mm was called from Python)'
    words = ['emo-mm', *sys.argv[1:]] if name in ('emo-mm', 'cli.py') else ['python', *sys.argv]
    return shlex.join(words)


def versions() -> dict[str, str]:
    """Return the versions of what ran."""
    found = {'emo_mm': __version__, 'torch': torch.__version__, 'Python': platform.python_version()}
    for name in _PACKAGES:
        for distribution in (name, f'onedl-{name.replace("mmdet", "mmdetection")}'):
            try:
                found[distribution] = metadata.version(distribution)
            except metadata.PackageNotFoundError:
                continue
    found['device'] = torch.cuda.get_device_name() if torch.cuda.is_available() else 'CPU'
    return found
