#!/usr/bin/env python
"""Show where the time of a training and of an evaluation goes: files, augmentation, batches, network, metric.

Everything is measured on the objects that a real run uses, in one process: the transforms of the pipelines, the data
preprocessor, the steps of the optimizer, the post-processing and the metric are timed where they are called.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from itertools import chain, islice, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from mmengine.config import DictAction

from emo_mm.config.view import inner_parts
from emo_mm.data.splits import DataRequest
from emo_mm.engine.options import RunOptions
from emo_mm.engine.plan import plan_run
from emo_mm.engine.runner import build_runner
from emo_mm.errors import UserError

if TYPE_CHECKING:
    from mmengine.config import Config
    from mmengine.evaluator import Evaluator
    from mmengine.model import BaseModel
    from mmengine.runner import Runner
    from torch.utils.data import DataLoader

# Methods of models and heads that turn the output of the network into boxes, masks or classes.
_POST_PROCESSING = ('predict_by_feat', 'add_pred_to_datasample', 'postprocess_result', '_get_predictions')
# Parts that emo_mm has for speed -> those of the toolbox.
_TOOLBOX_PARTS = {
    'FasterCocoMetric': 'CocoMetric',
    'emo_mm.Expand': 'Expand',
    'emo_mm.MinIoURandomCrop': 'MinIoURandomCrop',
}
# Groups of transforms, by what their names begin with.
_GROUPS = {'Pack': 'packing', 'Load': 'loading'}
_TRAIN, _EVAL = 'training', 'evaluation'


@dataclass(frozen=True)
class Part:
    """What one part of the work took.

    Attributes:
        phase: ``training`` or ``evaluation``.
        group: Kind of work, such as ``decoding``, ``transforms`` or ``model``.
        name: The transform or the step.
        calls: How often it ran.
        cpu_ms: Processor time of all threads per image, in milliseconds, without the parts measured inside it.
        wall_ms: The same by the clock on the wall.
        share: Its part of the processor time of its phase, 0 to 1.
    """

    phase: str
    group: str
    name: str
    calls: int
    cpu_ms: float
    wall_ms: float
    share: float


@dataclass(frozen=True)
class DataPathProfile:
    """The profile of a config.

    Attributes:
        config: Its name.
        batch_size: Training images in a batch.
        images: Images that were measured, by phase.
        boxes: Boxes that the evaluation found per image; None where the task has no boxes.
        weights: The checkpoint, or ``random``.
        toolbox_parts: Whether the toolbox's own parts ran in the place of those that emo_mm speeds up.
        machine: Processor, threads and versions.
        metrics: What the evaluation computed.
        parts: What each part took, in the order of the work.
    """

    config: str
    batch_size: int
    images: dict[str, int]
    boxes: float | None
    weights: str
    toolbox_parts: bool
    machine: dict[str, str]
    metrics: dict[str, float]
    parts: list[Part]

    def total(self, phase: str, group: str | None = None) -> float:
        """Return the processor time per image of a phase, or of one group of it, in milliseconds."""
        return sum(part.cpu_ms for part in self.parts if part.phase == phase and group in (None, part.group))


class Clock:
    """Adds up time by section. Time in a section inside another counts for the inner one alone.

    Args:
        synchronise: Called before each reading, to wait for a device; None on CPUs.
    """

    def __init__(self, synchronise: Callable[[], None] | None = None) -> None:
        self.cpu: defaultdict[tuple[str, str], float] = defaultdict(float)
        self.wall: defaultdict[tuple[str, str], float] = defaultdict(float)
        self.calls: Counter[tuple[str, str]] = Counter()
        self._open: list[tuple[str, str]] = []
        self._last = (0.0, 0.0)
        self._synchronise = synchronise

    @contextmanager
    def section(self, group: str, name: str) -> Iterator[None]:
        """Count the time of the body for a part."""
        self._charge()
        self._open.append((group, name))
        try:
            yield
        finally:
            self._charge()
            self.calls[self._open.pop()] += 1

    def timed(self, function: Callable[..., Any], group: str, name: str) -> Callable[..., Any]:
        """Return a function that counts its time for a part."""

        def call(*args: Any, **kwargs: Any) -> Any:
            with self.section(group, name):
                return function(*args, **kwargs)

        return call

    def reset(self) -> None:
        """Forget what was counted."""
        self.cpu.clear()
        self.wall.clear()
        self.calls.clear()

    def _charge(self) -> None:
        if self._synchronise is not None:
            self._synchronise()
        now = (time.process_time(), time.perf_counter())
        if self._open:
            self.cpu[self._open[-1]] += now[0] - self._last[0]
            self.wall[self._open[-1]] += now[1] - self._last[1]
        self._last = now


def profile_data_path(
    options: RunOptions,
    iters: int | None = None,
    checkpoint: str | None = None,
    toolbox_parts: bool = False,
) -> DataPathProfile:
    """Run an epoch of training and an evaluation of a config in this process, and time their parts.

    Args:
        options: The run; its ``workers`` and ``work_dir`` are not used.
        iters: Training iterations to measure, after one to warm up; an epoch of the data set (once through it, where
            the config repeats it) if None. The evaluation always sees the whole validation set.
        checkpoint: Weights of the whole model. Without, the weights are random, and a detector finds no boxes.
        toolbox_parts: Whether to put the toolbox's own transforms, post-processing and COCO metric in the place of
            those that emo_mm has for speed.

    Raises:
        UserError: If the config, the data, the checkpoint or ``iters`` is wrong.
    """
    import torch

    from emo_mm.weights import load_model, read_checkpoint

    if iters is not None and iters < 1:
        raise UserError(f'--iters {iters}: at least one iteration is needed')
    weights = read_checkpoint(checkpoint) if checkpoint is not None else None
    with tempfile.TemporaryDirectory() as folder, ExitStack() as patches:
        options.work_dir, options.workers = folder, 0
        plan = plan_run(options, 'train')
        cfg, lines = plan.cfg, plan.lines
        if toolbox_parts:
            _use_toolbox_parts(cfg)
        cfg.log_level = 'WARNING'
        cfg.randomness = dict(seed=0)  # two profiles that are compared draw the same weights and augmentations
        runner = build_runner(cfg, lines)
        if weights is not None:
            load_model(runner.model, weights)
        clock = Clock(torch.cuda.synchronize if torch.cuda.is_available() else None)
        if toolbox_parts:
            _use_toolbox_post_processing(runner.model, patches)
        _time_model(runner.model, clock, patches)
        _time_decoding(clock, patches)
        trained = _train(runner, iters, clock, patches)
        measured = _parts(clock, _TRAIN, trained)
        clock.reset()
        if weights is not None:
            load_model(runner.model, weights)  # the training may have spoiled it
        found, evaluated, metrics = _evaluate(runner, clock, patches)
        measured += _parts(clock, _EVAL, evaluated)
    return DataPathProfile(
        config=Path(cfg.filename).stem,
        batch_size=cfg.train_dataloader.batch_size,
        images={_TRAIN: trained, _EVAL: evaluated},
        boxes=found,
        weights=Path(checkpoint).name if checkpoint else 'random',
        toolbox_parts=toolbox_parts,
        machine=_machine(),
        metrics=metrics,
        parts=measured,
    )


def format_profile(profile: DataPathProfile) -> str:
    """Return a profile as Markdown: its conditions, and a table of each phase."""
    machine = ', '.join(profile.machine.values())
    boxes = '' if profile.boxes is None else f', {profile.boxes:.0f} boxes found per image'
    variant = "the toolbox's own parts" if profile.toolbox_parts else 'the parts of emo_mm'
    lines = [
        f'`{profile.config}`, batch {profile.batch_size}, {variant}, weights {profile.weights}{boxes}. {machine}.',
        'Processor time per image (all threads), without the parts listed on their own; wall time beside it.',
    ]
    for phase, images in profile.images.items():
        lines += ['', f'{phase.capitalize()}, {images} images:', '']
        lines += ['| group | part | calls | CPU ms/image | wall ms/image | share |', '|---|---|--:|--:|--:|--:|']
        lines += [
            f'| {part.group} | {part.name} | {part.calls} | {part.cpu_ms:.2f} | {part.wall_ms:.2f} | {part.share:.1%} |'
            for part in profile.parts
            if part.phase == phase
        ]
        lines.append(f'| | **all** | | {profile.total(phase):.2f} | | 100 % |')
    return '\n'.join(lines)


def format_comparison(before: DataPathProfile, after: DataPathProfile) -> str:
    """Return two profiles of a config as one Markdown table of their groups."""
    lines = ['| phase | group | toolbox CPU ms/image | emo_mm CPU ms/image | ratio |', '|---|---|--:|--:|--:|']
    for phase in after.images:
        groups = dict.fromkeys(part.group for part in (*before.parts, *after.parts) if part.phase == phase)
        for group in (*groups, None):
            old, new = before.total(phase, group), after.total(phase, group)
            ratio = f'{old / new:.2f}' if new else '-'
            lines.append(f'| {phase} | {group or "**all**"} | {old:.2f} | {new:.2f} | {ratio} |')
    return '\n'.join(lines)


def write_profiles(profiles: Iterable[DataPathProfile], out: Path) -> None:
    """Write profiles to ``out``.json and, as tables, to ``out``.md; of two, the comparison comes first."""
    profiles = list(profiles)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix('.json').write_text(json.dumps([asdict(profile) for profile in profiles], indent=1))
    tables = [format_profile(profile) for profile in profiles]
    if len(profiles) == 2:
        tables.insert(0, format_comparison(*profiles))
    out.with_suffix('.md').write_text('\n\n'.join(tables) + '\n')


def _use_toolbox_parts(cfg: Config) -> None:
    """Put the toolbox's own transforms and metric in the place of those that give the same results sooner."""
    for place in ('train_dataloader', 'val_dataloader', 'val_evaluator'):
        for part in inner_parts(cfg.get(place), place):
            if part.node.get('type') in _TOOLBOX_PARTS:
                part.node['type'] = _TOOLBOX_PARTS[part.node['type']]


def _use_toolbox_post_processing(model: BaseModel, patches: ExitStack) -> None:
    """Let the head of a detector find its boxes as the class does from which ours is derived."""
    head: Any = getattr(model, 'bbox_head', None)
    if type(head).__module__.startswith('emo_mm.'):
        patches.enter_context(mock.patch.object(head, 'predict_by_feat', super(type(head), head).predict_by_feat))


def _train(runner: Runner, iters: int | None, clock: Clock, patches: ExitStack) -> int:
    """Train for one iteration to warm up and then for those that count; return the images of those."""
    loader = runner.build_dataloader(runner.cfg.train_dataloader, seed=0)
    optimizer = runner.build_optim_wrapper(runner.cfg.optim_wrapper)
    for method in ('backward', 'step', 'zero_grad'):
        name = {'step': 'optimizer step', 'zero_grad': 'optimizer step'}.get(method, method)
        patches.enter_context(
            mock.patch.object(optimizer, method, clock.timed(getattr(optimizer, method), 'model', name))
        )
    _time_loader(loader, clock, patches)
    runner.model.train()
    if not len(loader):
        raise UserError(f'batches of {loader.batch_size} are larger than the training set; give a smaller --batch-size')
    if iters is None:
        iters = max(1, len(_innermost(loader.dataset)) // loader.batch_size)
    # One iterator for all: MMEngine's InfiniteSampler does not start again.
    batches = _timed_batches(chain.from_iterable(repeat(loader)), clock)
    runner.model.train_step(next(batches), optimizer)  # to warm up
    clock.reset()
    images = 0
    for batch in islice(batches, iters):
        images += len(batch['inputs'])
        with clock.section('model', 'other (step, loss sums)'):
            runner.model.train_step(batch, optimizer)
    return images


def _evaluate(runner: Runner, clock: Clock, patches: ExitStack) -> tuple[float | None, int, dict[str, float]]:
    """Evaluate; return the boxes found per image, the images and the metrics."""
    import torch

    loader = runner.build_dataloader(runner.cfg.val_dataloader, seed=0)
    _time_loader(loader, clock, patches)
    runner.model.eval()
    boxes: list[int] = []
    images = 0
    with torch.no_grad():
        runner.model.val_step(next(iter(loader)))  # to warm up
        clock.reset()
        with clock.section('metric', 'reading of the truth'):
            evaluator: Evaluator = runner.build_evaluator(runner.cfg.val_evaluator)
        evaluator.dataset_meta = loader.dataset.metainfo
        for batch in _timed_batches(loader, clock):
            with clock.section('model', 'other (step, loss sums)'):
                samples = runner.model.val_step(batch)
            images += len(samples)
            boxes += [len(sample.pred_instances) for sample in samples if 'pred_instances' in sample]
            with clock.section('metric', 'collecting of predictions'):
                evaluator.process(data_samples=samples, data_batch=batch)
    with clock.section('metric', 'evaluation'):
        metrics = evaluator.evaluate(images)
    return sum(boxes) / images if boxes else None, images, {key: float(value) for key, value in metrics.items()}


def _timed_batches(loader: Iterable[Any], clock: Clock) -> Iterator[Any]:
    iterator = iter(loader)
    while True:
        with clock.section('loading', 'data set and sampler'):
            batch = next(iterator, None)
        if batch is None:
            return
        yield batch


def _time_loader(loader: DataLoader, clock: Clock, patches: ExitStack) -> None:
    """Time the transforms of a loader and the making of its batches."""
    collate = clock.timed(loader.collate_fn, 'collation', 'collation')
    patches.enter_context(mock.patch.object(loader, 'collate_fn', collate))
    seen: Counter[str] = Counter()
    for transform in _innermost(loader.dataset).pipeline.transforms:
        name = type(transform).__name__
        seen[name] += 1
        group = next((group for prefix, group in _GROUPS.items() if name.startswith(prefix)), 'transforms')
        label = name if seen[name] == 1 else f'{name} {seen[name]}'
        patches.enter_context(mock.patch.object(transform, 'transform', clock.timed(transform.transform, group, label)))


def _innermost(dataset: Any) -> Any:
    """Return the data set that has the pipeline, below those that repeat or join it."""
    while hasattr(dataset, 'dataset'):
        dataset = dataset.dataset
    if not hasattr(dataset, 'pipeline'):
        raise UserError(f'{type(dataset).__name__} has no pipeline to measure; profile a single data set')
    return dataset


def _time_decoding(clock: Clock, patches: ExitStack) -> None:
    """Time what turns the bytes of a file into pixels, for images and masks."""
    import mmcv

    patches.enter_context(
        mock.patch.object(mmcv, 'imfrombytes', clock.timed(mmcv.imfrombytes, 'decoding', 'mmcv.imfrombytes'))
    )


def _time_model(model: BaseModel, clock: Clock, patches: ExitStack) -> None:
    """Time the preprocessor, the network, its losses and its post-processing."""

    def replace(owner: Any, method: str, group: str, name: str) -> None:
        patches.enter_context(mock.patch.object(owner, method, clock.timed(getattr(owner, method), group, name)))

    replace(model.data_preprocessor, 'forward', 'preprocessing', type(model.data_preprocessor).__name__)
    replace(model, 'forward', 'model', 'forward')
    for module in model.modules():
        if hasattr(module, 'loss_by_feat'):
            replace(module, 'loss_by_feat', 'model', 'losses and target assignment')
        for method in _POST_PROCESSING:
            if hasattr(module, method):
                replace(module, method, 'post-processing', method)


def _parts(clock: Clock, phase: str, images: int) -> list[Part]:
    order = ('loading', 'decoding', 'transforms', 'packing', 'collation', 'preprocessing', 'model')
    ranks = {group: rank for rank, group in enumerate(order)}
    total = sum(clock.cpu.values())
    return [
        Part(
            phase=phase,
            group=group,
            name=name,
            calls=clock.calls[group, name],
            cpu_ms=1e3 * clock.cpu[group, name] / images,
            wall_ms=1e3 * clock.wall[group, name] / images,
            share=clock.cpu[group, name] / total,
        )
        for group, name in sorted(clock.calls, key=lambda key: ranks.get(key[0], len(ranks)))
    ]


def _machine() -> dict[str, str]:
    import platform

    import torch

    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    else:
        device = f'{platform.processor() or platform.machine()} ({torch.backends.cpu.get_cpu_capability()})'
    return {'device': device, 'threads': f'{torch.get_num_threads()} threads', 'torch': f'torch {torch.__version__}'}


def main() -> int:
    """Profile a config; print tables, and write them where asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='name (see `emo-mm list`) or path of a config')
    parser.add_argument('--data-root', metavar='DIR', help='another place of the data set, or your own')
    parser.add_argument('--batch-size', type=int, metavar='N', help='training images in a batch')
    parser.add_argument('--iters', type=int, metavar='N', help='training iterations; once through the data set')
    parser.add_argument('--checkpoint', metavar='FILE', help='trained weights, without which no boxes are found')
    parser.add_argument('--threads', type=int, default=1, metavar='N', help='of torch')
    parser.add_argument('--cache', choices=('ram', 'disk'), help='keep decoded images; the first epoch fills the cache')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, default={}, metavar='KEY=VALUE', help='settings to override'
    )
    variant = parser.add_mutually_exclusive_group()
    variant.add_argument('--toolbox-parts', action='store_true', help="the toolbox's own transforms and metric")
    variant.add_argument('--compare', action='store_true', help="first the toolbox's own parts, then those of emo_mm")
    parser.add_argument('--out', type=Path, metavar='PATH', help='write PATH.md and PATH.json')
    args = parser.parse_args()

    import torch

    torch.set_num_threads(args.threads)
    profiles = []
    try:
        for toolbox_parts in (True, False) if args.compare else (args.toolbox_parts,):
            options = RunOptions(
                args.config,
                cfg_options=args.cfg_options,
                data=DataRequest(data_root=args.data_root),
                batch_size=args.batch_size,
                cache=args.cache,
            )
            profiles.append(profile_data_path(options, args.iters, args.checkpoint, toolbox_parts))
            print(f'\n{format_profile(profiles[-1])}')
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    if args.compare:
        print(f'\n{format_comparison(*profiles)}')
    if args.out is not None:
        write_profiles(profiles, args.out)
    return 0


if __name__ == '__main__':
    sys.exit(main())
