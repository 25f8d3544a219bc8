"""The process of one contestant: it prepares its step, then runs it whenever its turn comes.

Each contestant has a process of its own, because the setting of the C allocator, peaks of memory and what
`torch.compile` keeps belong to a process. Only one of them works at a time.
"""

from __future__ import annotations

import logging
import sys
import time
import warnings
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch

from emo_mm.benchmark.contestant import Contestant
from emo_mm.benchmark.counting import Complexity, count
from emo_mm.benchmark.memory import Memory, measure_memory
from emo_mm.benchmark.networks import fold
from emo_mm.benchmark.runtimes import RUNTIMES
from emo_mm.benchmark.steps import Step, make_step
from emo_mm.benchmark.timing import time_calls, time_calls_by_events
from emo_mm.engine.cpu.allocator import give_back_freed_memory, keep_freed_memory
from emo_mm.errors import first_line

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
    """Something failed.

    Attributes:
        message: What and why, in a line.
    """

    message: str


@dataclass(frozen=True)
class Turn:
    """Ask for a turn: steps until ``seconds`` have passed, at least ``steps`` of them. The answer is Times."""

    seconds: float
    steps: int


@dataclass(frozen=True)
class Times:
    """Milliseconds of each step of a turn, without the warm-up."""

    milliseconds: tuple[float, ...]


@dataclass(frozen=True)
class MeasureMemory:
    """Ask for the memory of a step. The answer is Memory."""


def serve(connection: Connection, contestant: Contestant) -> None:
    """Prepare a contestant, then answer requests until None arrives or the other end of the pipe is closed."""
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
            give_back_freed_memory()  # other contestants may need it
    except EOFError:
        pass
    except Exception as error:  # a network may raise anything
        connection.send(Failure(first_line(error, with_type=True)))


def _answer(request: Any, step: Step, contestant: Contestant) -> Times | Memory:
    for _ in range(TURN_WARM_UP):
        step.run()
    if isinstance(request, Turn):
        if contestant.device == 'cpu':
            times = time_calls(step.run, 'cpu', request.seconds, request.steps)
        else:
            times = time_calls_by_events(step.run, request.seconds, request.steps)
        return Times(tuple(times))
    return measure_memory(step.run, contestant.device, step.trained, RUNTIMES[contestant.runtime].in_torch)


@dataclass(frozen=True)
class Inspection:
    """What is found out about a model before it is measured.

    Attributes:
        complexity: Parameters and multiply-adds of one image of the contestant's size.
        cannot_fold: Why its norms cannot be folded; empty if they can, or if no runtime folds them.
    """

    complexity: Complexity
    cannot_fold: str


def inspect(connection: Connection, contestants: tuple[Contestant, ...], fused: bool) -> None:
    """Send, for each contestant, its Inspection, or a Failure if its network cannot take its input."""
    _quiet()
    for contestant in contestants:
        try:
            answer: Inspection | Failure = _inspect(contestant, fused)
        except Exception as error:  # a network may raise anything
            answer = Failure(first_line(error, with_type=True))
        try:
            connection.send(answer)
        except OSError:
            return  # the other end closes after a failure


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


def _quiet() -> None:
    """Keep the toolboxes' warnings off the screen: they concern loading and training, not what is measured."""
    warnings.simplefilter('ignore')
    logging.disable(logging.WARNING)


def _stop_compilers() -> None:
    """End the processes that `torch.compile` keeps waiting for more to compile."""
    module = sys.modules.get('torch._inductor.async_compile')
    if module is not None:
        module.shutdown_compile_workers()
