"""A roofline estimate of each stage of a backbone beside its measured time."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from emo_mm.benchmark.ceilings import Ceilings, measure_ceilings
from emo_mm.benchmark.contest import MIN_STEPS, interleave
from emo_mm.benchmark.contestant import Contestant
from emo_mm.benchmark.machine import Machine, describe_machine
from emo_mm.benchmark.plan import BenchmarkOptions, make_plan, with_suite
from emo_mm.benchmark.runtimes import RUNTIMES
from emo_mm.benchmark.steps import example_images
from emo_mm.benchmark.tables import RIGHT, Column, markdown_table
from emo_mm.benchmark.timing import spread, time_calls
from emo_mm.engine.cpu.allocator import keep_freed_memory
from emo_mm.errors import UserError

_aten = torch.ops.aten


@dataclass(frozen=True)
class Operator:
    """One call of an operator.

    Attributes:
        name: Its name.
        touched: Bytes of its input and output tensors, each once: the least that it must move.
        macs: Its multiply-adds.
    """

    name: str
    touched: int
    macs: int

    def roofline(self, ceilings: Ceilings) -> float:
        """Return the least seconds that it needs: its bytes or its multiply-adds at the measured ceilings."""
        return max(self.touched / ceilings.bandwidth_at(self.touched), self.macs / ceilings.macs_per_s)


@dataclass(frozen=True)
class StageCost:
    """One stage of a network.

    Attributes:
        model: Name of the model.
        runtime: ``eager`` or ``fused``.
        stage: ``stem``, ``stage 1`` to ``stage 4``, ``head`` or ``whole``.
        size: Height×width of the image.
        batch: Images.
        operators: Operators that touch memory.
        macs: Multiply-adds of the batch.
        touched_mb: Bytes that its operators touch, in MB.
        arithmetic_ms: Time of the multiply-adds at the measured ceiling.
        memory_ms: Time of the bytes at the measured bandwidth of a copy as large as each operator.
        roofline_ms: For each operator the larger of the two, summed: the bound of a formulation that calls these
            operators one after another.
        measured_ms: Median measured time.
        p10_ms: 10th percentile of the same.
        p90_ms: 90th percentile of the same.
    """

    model: str
    runtime: str
    stage: str
    size: str
    batch: int
    operators: int
    macs: int
    touched_mb: float
    arithmetic_ms: float
    memory_ms: float
    roofline_ms: float
    measured_ms: float
    p10_ms: float
    p90_ms: float

    @property
    def share(self) -> float:
        """The roofline as a share of the measured time."""
        return self.roofline_ms / self.measured_ms


class OperatorLog(TorchDispatchMode):
    """Lists the operators that are called inside the `with` block, without views, which move nothing.

    Attributes:
        operators: The calls, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operators: list[Operator] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the operator and list it."""
        out = func(*args, **(kwargs or {}))
        inputs = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        outputs = [x for x in tree_leaves(out) if isinstance(x, Tensor)]
        storages = {x.untyped_storage().data_ptr() for x in inputs}
        in_place = func._schema.is_mutable
        moves = in_place or any(x.untyped_storage().data_ptr() not in storages for x in outputs)
        if moves and outputs and not func.is_view and func is not _aten.empty.memory_format:
            touched = sum(x.numel() * x.element_size() for x in (*inputs, *outputs))
            self.operators.append(Operator(str(func._overloadpacket), touched, _macs(func, args, kwargs or {}, out)))
        return out


def _macs(func: Any, args: Any, kwargs: Any, out: Any) -> int:
    packet = func._overloadpacket
    if packet is _aten._scaled_dot_product_flash_attention_for_cpu:  # the registry lists those of GPUs only
        query, key, value = args[:3]
        return query.numel() * key.shape[-2] + query.shape[:-1].numel() * key.shape[-2] * value.shape[-1]
    formula = flop_registry.get(packet)
    return formula(*args, **kwargs, out_val=out) // 2 if formula is not None else 0


def log_operators(call: Callable[[], Any]) -> list[Operator]:
    """Return the operators that a call makes."""
    log = OperatorLog()
    with torch.no_grad(), log:  # inference mode would show composite operators, not what they call
        call()
    return log.operators


def split(model: nn.Module) -> dict[str, nn.Module | Callable[[Tensor], Tensor]]:
    """Return the parts of an EMO or EMOv2 classifier by name, each taking what the one before it returns.

    Raises:
        UserError: If it is another model.
    """
    from emo_mm.models.pyramid import MobilePyramid

    backbone, head = getattr(model, 'backbone', None), getattr(model, 'head', None)
    if not isinstance(backbone, MobilePyramid) or type(head).__name__ != 'EMOClsHead':
        raise UserError('--stages takes EMO and EMOv2 classifiers, such as emo_1m')
    assert head is not None

    def classify(x: Tensor) -> Tensor:
        return head((x,))

    def stem(x: Tensor) -> Tensor:
        return backbone.stem(x.contiguous(memory_format=torch.channels_last))  # as the backbone does

    return {'stem': stem, **{f'stage {k}': stage for k, stage in enumerate(backbone.stages, 1)}, 'head': classify}


def run_stages(options: BenchmarkOptions) -> list[StageCost]:
    """Measure ceilings and stages; print the table and write it to ``options.out`` as CSV and Markdown.

    Raises:
        UserError: If an option is wrong.
    """
    options = with_suite(replace(options, modes=('forward',)))
    if wrong := [name for name in options.runtimes if name not in ('eager', 'fused')]:
        raise UserError(f'--stages takes the runtimes eager and fused, not {", ".join(wrong)}')
    plan = make_plan(options)
    machine = describe_machine(options.device)
    if options.device == 'cpu':
        keep_freed_memory()
    torch.set_num_threads(options.threads)
    print('measuring the ceilings', flush=True)
    ceilings = measure_ceilings(options.device, options.dtypes[0])
    costs = []
    for group in plan.groups:
        for contestant in group.contestants:
            print(f'{contestant.title}, {group.title}', flush=True)
            costs += stage_costs(contestant, ceilings, options.rounds, options.turn_seconds)
    _write(costs, ceilings, machine, Path(options.out), options)
    return costs


def stage_costs(contestant: Contestant, ceilings: Ceilings, rounds: int, turn_seconds: float) -> list[StageCost]:
    """Return what each stage of a contestant costs, and how long it takes."""
    images = example_images(contestant)
    model = RUNTIMES[contestant.runtime].prepare(contestant, images)
    assert isinstance(model, nn.Module)
    calls: dict[str, Callable[[], Any]] = {}
    x = images
    with torch.inference_mode():
        for name, part in split(model).items():
            calls[name] = _call(part, x)
            x = part(x)
    calls['whole'] = _call(model, images)
    operators = {name: log_operators(call) for name, call in calls.items()}

    def turn(name: str) -> list[float]:
        with torch.inference_mode():
            return time_calls(calls[name], contestant.device, turn_seconds, MIN_STEPS, warm_up=1)

    found = interleave(tuple(calls), rounds, turn)
    times = {name: list(itertools.chain.from_iterable(turns)) for name, turns in found.items()}
    return [_cost(contestant, name, operators[name], times[name], ceilings) for name in calls]


def _call(part: Callable[[Tensor], Any], x: Tensor) -> Callable[[], Any]:
    return lambda: part(x)


def _cost(
    contestant: Contestant, stage: str, operators: list[Operator], times: list[float], ceilings: Ceilings
) -> StageCost:
    median, p10, p90 = spread(times)
    macs = sum(operator.macs for operator in operators)
    return StageCost(
        model=contestant.subject.name,
        runtime=contestant.runtime,
        stage=stage,
        size=contestant.pixels,
        batch=contestant.batch,
        operators=len(operators),
        macs=macs,
        touched_mb=sum(operator.touched for operator in operators) / 1e6,
        arithmetic_ms=1000 * macs / ceilings.macs_per_s,
        memory_ms=1000 * sum(o.touched / ceilings.bandwidth_at(o.touched) for o in operators),
        roofline_ms=1000 * sum(operator.roofline(ceilings) for operator in operators),
        measured_ms=median,
        p10_ms=p10,
        p90_ms=p90,
    )


_COLUMNS = (
    Column('model', lambda cost: cost.model),
    Column('runtime', lambda cost: cost.runtime),
    Column('input', lambda cost: cost.size),
    Column('batch', lambda cost: str(cost.batch)),
    Column('stage', lambda cost: cost.stage),
    Column('operators', lambda cost: str(cost.operators), RIGHT),
    Column('MACs (M)', lambda cost: f'{cost.macs / 1e6:.1f}', RIGHT),
    Column('touched (MB)', lambda cost: f'{cost.touched_mb:.2f}', RIGHT),
    Column('arithmetic (ms)', lambda cost: f'{cost.arithmetic_ms:.2f}', RIGHT),
    Column('memory (ms)', lambda cost: f'{cost.memory_ms:.2f}', RIGHT),
    Column('roofline (ms)', lambda cost: f'{cost.roofline_ms:.2f}', RIGHT),
    Column('measured (ms)', lambda cost: f'{cost.measured_ms:.2f}', RIGHT),
    Column('p10–p90', lambda cost: f'{cost.p10_ms:.2f}–{cost.p90_ms:.2f}', RIGHT),
    Column('roofline / measured', lambda cost: f'{cost.share:.2f}', RIGHT),
)


def stages_markdown(costs: list[StageCost], ceilings: Ceilings, machine: Machine, threads: int) -> str:
    """Return conditions, ceilings and the table, in Markdown."""
    curve = ', '.join(
        f'{size / 2**20:g} MiB {rate / 1e9:.1f}'
        for size, rate in zip(ceilings.copy_bytes, ceilings.bandwidth, strict=True)
    )
    return '\n\n'.join(
        (
            ' '.join(f'{line}.' for line in (*machine.lines(), f'threads: {threads}')),
            f'Measured ceilings: {ceilings.macs_per_s / 1e9:.1f} G multiply-adds/s (matrix product of side '
            f'{ceilings.matrix_side}); copies, GB/s by bytes touched: {curve}.',
            markdown_table(_COLUMNS, costs),
        )
    )


def _write(
    costs: list[StageCost], ceilings: Ceilings, machine: Machine, folder: Path, options: BenchmarkOptions
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    name = f'stages_{options.suite or "-".join(options.models[:4])}_{options.device}_{options.threads}threads'
    text = stages_markdown(costs, ceilings, machine, options.threads)
    (folder / f'{name}.md').write_text(text + '\n', encoding='utf-8')
    with (folder / f'{name}.csv').open('w', newline='', encoding='utf-8') as file:
        conditions = {**asdict(machine), 'threads': options.threads, 'macs_per_s': ceilings.macs_per_s}
        conditions['memory_bandwidth'] = ceilings.memory_bandwidth
        writer = csv.DictWriter(file, [*asdict(costs[0]), *conditions], lineterminator='\n')
        writer.writeheader()
        for cost in costs:
            writer.writerow({**asdict(cost), **conditions})
    print(text)
    print(f'written to {folder}: {name}.csv, {name}.md')
