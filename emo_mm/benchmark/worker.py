"""The process of one contestant: it prepares its step, and then runs it whenever it is its turn.

Each contestant has a process of its own, because the setting of the C allocator, peaks of memory and what
`torch.compile` keeps belong to a process. Only one of them works at a time.
"""

from __future__ import annotations

import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch

from emo_mm.benchmark.contestant import Contestant
from emo_mm.benchmark.counting import Complexity, count
from emo_mm.benchmark.memory import Memory, measure_memory
from emo_mm.benchmark.runtimes import RUNTIMES, fold
from emo_mm.benchmark.steps import Step, make_step
from emo_mm.engine.cpu.allocator import give_back_freed_memory, keep_freed_memory

WARM_UP = 3  # steps after the preparation
TURN_WARM_UP = 2  # steps before each turn: pages that were given back come back, caches fill


@dataclass(frozen=True)
class Ready:
    """A contestant is prepared.

    Attributes:
        allocator: ``keeps freed memory`` where the C allocator is set as our tools do, or ``process default``.
        seconds: How long the preparation took, compilation included.
    """

    allocator: str
    seconds: float


@dataclass(frozen=True)
class Failure:
    """Something could not be done.

    Attributes:
        message: What and why, in a line.
        trace: The traceback.
    """

    message: str
    trace: str


@dataclass(frozen=True)
class Turn:
    """Ask for a turn: steps until ``seconds`` have passed, at least ``steps`` of them. The answer is Times."""

    seconds: float
    steps: int


@dataclass(frozen=True)
class Times:
    """What a turn took: milliseconds of each step, the warm-up left out."""

    milliseconds: tuple[float, ...]


@dataclass(frozen=True)
class MeasureMemory:
    """Ask for the memory of a step. The answer is Memory."""


def serve(connection: Connection, contestant: Contestant) -> None:
    """Prepare a contestant, then answer requests until None comes or the other end is gone."""
    _quiet()
    try:
        runtime = RUNTIMES[contestant.runtime]
        keeps = contestant.device == 'cpu' and runtime.keeps_freed_memory and keep_freed_memory()
        torch.set_num_threads(contestant.threads)
        start = time.perf_counter()
        step = make_step(contestant)
        for _ in range(WARM_UP):
            step.run()
        _stop_compilers()
        connection.send(Ready('keeps freed memory' if keeps else 'process default', time.perf_counter() - start))
        while (request := connection.recv()) is not None:
            connection.send(_answer(request, step, contestant))
            give_back_freed_memory()  # the others may need it
    except EOFError:
        pass
    except Exception as error:  # whatever a network raises is reported with its name
        connection.send(_failure(error))


def _answer(request: Any, step: Step, contestant: Contestant) -> Times | Memory:
    for _ in range(TURN_WARM_UP):
        step.run()
    if isinstance(request, Turn):
        timer = _time_on_cpu if contestant.device == 'cpu' else _time_on_gpu
        return Times(timer(step.run, request))
    return measure_memory(step.run, contestant.device, step.trained, RUNTIMES[contestant.runtime].in_torch)


def _time_on_cpu(step: Callable[[], Any], turn: Turn) -> tuple[float, ...]:
    times: list[int] = []
    end = time.perf_counter_ns() + int(turn.seconds * 1e9)
    while len(times) < turn.steps or time.perf_counter_ns() < end:
        start = time.perf_counter_ns()
        step()
        times.append(time.perf_counter_ns() - start)
    return tuple(nanoseconds / 1e6 for nanoseconds in times)


def _time_on_gpu(step: Callable[[], Any], turn: Turn) -> tuple[float, ...]:
    """Time with events around each step; the GPU waits for nothing but the steps."""
    times: list[float] = []
    end = time.perf_counter() + turn.seconds
    while len(times) < turn.steps or time.perf_counter() < end:
        events = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(10)]
        for first, last in events:
            first.record()
            step()
            last.record()
        torch.cuda.synchronize()
        times += [first.elapsed_time(last) for first, last in events]
    return tuple(times)


@dataclass(frozen=True)
class Inspection:
    """What is known of a model before it is measured.

    Attributes:
        complexity: Parameters and multiply-adds of one image of the contestant's size.
        cannot_fold: Why its norms cannot be folded; empty if they can, or if nobody asked.
    """

    complexity: Complexity
    cannot_fold: str


def inspect(connection: Connection, contestants: tuple[Contestant, ...], fused: bool) -> None:
    """Answer, for each contestant, with its Inspection, or with a Failure if its network cannot take its input."""
    _quiet()
    for contestant in contestants:
        try:
            answer: Inspection | Failure = _inspect(contestant, fused)
        except Exception as error:  # whatever a network raises is reported with its name
            answer = _failure(error)
        try:
            connection.send(answer)
        except OSError:
            return  # nobody listens after a failure


def _inspect(contestant: Contestant, fused: bool) -> Inspection:
    height, width = contestant.size
    model = contestant.subject.build(for_inference=not contestant.trains)
    # On the meta device: a wrong size shows, and nothing is computed.
    complexity = count(model, torch.empty(1, 3, height, width, device='meta'))
    if contestant.trains:
        with torch.no_grad():
            model.to('meta').train()(torch.empty(contestant.batch, 3, height, width, device='meta'))
    cannot_fold = ''
    if fused and contestant.subject.is_peer:
        try:
            fold(contestant.subject.build(for_inference=True), contestant.size)
        except ValueError as error:
            cannot_fold = str(error)
    return Inspection(complexity, cannot_fold)


def _failure(error: Exception) -> Failure:
    lines = str(error).strip().splitlines() or ['no message']
    return Failure(f'{type(error).__name__}: {lines[0]}', traceback.format_exc())


def _quiet() -> None:
    """Keep the toolboxes' warnings off the screen: they concern loading and training, not what is measured."""
    import logging

    warnings.simplefilter('ignore')
    logging.disable(logging.WARNING)


def _stop_compilers() -> None:
    """End the processes that `torch.compile` keeps waiting for more to compile."""
    import sys

    module = sys.modules.get('torch._inductor.async_compile')
    if module is not None:
        module.shutdown_compile_workers()
