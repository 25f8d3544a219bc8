"""The contest: one process per contestant, measured in rounds, A B C A B C, so that noise falls on all alike."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from emo_mm.benchmark.contestant import Contestant
from emo_mm.benchmark.memory import Memory
from emo_mm.benchmark.plan import Group, Plan
from emo_mm.benchmark.worker import Failure, Inspection, MeasureMemory, Ready, Times, Turn, inspect, serve
from emo_mm.errors import UserError

MIN_STEPS = 3  # timed steps of a turn, however slow

Report = Callable[[str], None]
Key = TypeVar('Key')


@dataclass(frozen=True)
class Measurement:
    """What was measured of a contestant.

    Attributes:
        contestant: The contestant.
        rounds: Milliseconds of each timed step, one tuple per round.
        memory: Memory of a step.
        allocator: Setting of the C allocator in its process.
        preparation: Seconds that preparing it took, compilation included.
    """

    contestant: Contestant
    rounds: tuple[tuple[float, ...], ...]
    memory: Memory
    allocator: str
    preparation: float


def inspect_all(plan: Plan, report: Report) -> dict[Contestant, Inspection]:
    """Build every model once, count it, and check that it takes its input, before anything is measured.

    Returns:
        What was found, for each contestant of the plan.

    Raises:
        UserError: If a network cannot take its input.
    """
    every = [contestant for group in plan.groups for contestant in group.contestants]
    # Runtimes and dtypes share a network.
    firsts: dict[Any, Contestant] = {}
    for contestant in every:
        firsts.setdefault(_network_of(contestant), contestant)
    report(f'checking {len(firsts)} networks and inputs')
    fused = any(contestant.runtime == 'fused' for contestant in every)
    found: dict[Any, Inspection] = {}
    with _process(_context(every), inspect, tuple(firsts.values()), fused) as connection:
        for key, contestant in firsts.items():
            action = 'train on' if contestant.trains else 'take'
            fault = f'{contestant.subject.name} cannot {action} a batch of {contestant.batch} at {contestant.pixels}'
            found[key] = _receive(connection, contestant, fault)
    return {contestant: found[_network_of(contestant)] for contestant in every}


def measure(group: Group, rounds: int, turn_seconds: float, report: Report) -> list[Measurement]:
    """Measure the contestants of a group in rounds.

    Args:
        group: The group.
        rounds: Rounds; in each, every contestant has one turn.
        turn_seconds: Least length of a turn.
        report: Is called with each line about the progress.

    Raises:
        UserError: If a contestant cannot be prepared, or fails.
    """
    with _contestants(group, report) as (connections, ready):

        def turn(contestant: Contestant) -> tuple[float, ...]:
            answer = _ask(connections[contestant], Turn(turn_seconds, MIN_STEPS), contestant)
            assert isinstance(answer, Times)
            return answer.milliseconds

        report(f'  {rounds} rounds')
        times = interleave(group.contestants, rounds, turn)
        memory = {c: _ask(connections[c], MeasureMemory(), c) for c in group.contestants}
    return [Measurement(c, tuple(times[c]), memory[c], ready[c].allocator, ready[c].seconds) for c in group.contestants]


def interleave(keys: Sequence[Key], rounds: int, turn: Callable[[Key], Any]) -> dict[Key, list[Any]]:
    """Call ``turn`` for each key in each round, A B C A B C; return its results by key, in order of the rounds."""
    answers: dict[Key, list[Any]] = {key: [] for key in keys}
    for _ in range(rounds):
        for key in keys:
            answers[key].append(turn(key))
    return answers


def _network_of(contestant: Contestant) -> Any:
    return contestant.subject, contestant.size, contestant.trains, contestant.batch if contestant.trains else 0


@contextmanager
def _contestants(
    group: Group, report: Report
) -> Iterator[tuple[dict[Contestant, Connection], dict[Contestant, Ready]]]:
    """Start the processes of a group, prepared one after the other; end them on leaving."""
    context = _context(group.contestants)
    connections: dict[Contestant, Connection] = {}
    ready: dict[Contestant, Ready] = {}
    with ExitStack() as stack:
        for contestant in group.contestants:
            connection = stack.enter_context(_process(context, serve, contestant))
            answer = _receive(connection, contestant, f'{contestant.title} ({group.title}) cannot be prepared')
            report(f'  {contestant.title} is ready after {answer.seconds:.1f} s')
            connections[contestant], ready[contestant] = connection, answer
        yield connections, ready


@contextmanager
def _process(context: Any, target: Callable[..., None], *args: Any) -> Iterator[Connection]:
    """Start a process with one end of a pipe, and yield the other end; end the process on leaving."""
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(theirs, *args))
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        with suppress(OSError):  # it has ended already
            ours.send(None)
        ours.close()
        process.join(10)
        if process.is_alive():
            process.kill()
            process.join()


def _context(contestants: Sequence[Contestant]) -> Any:
    """Return how processes start: forked from one that has imported everything, or fresh where CUDA is used."""
    os.environ.setdefault('KINETO_LOG_LEVEL', '5')  # the profiler warns where there is no GPU
    if contestants[0].device != 'cpu':
        return multiprocessing.get_context('spawn')
    context = multiprocessing.get_context('forkserver')
    toolboxes = {contestant.subject.toolbox for contestant in contestants}
    parts = ('datasets', 'engine', 'evaluation', 'models', 'structures', 'visualization')  # what is registered
    preloaded = [f'{toolbox}.{part}' for toolbox in sorted(toolboxes) for part in parts]
    context.set_forkserver_preload(['emo_mm.benchmark.worker', *preloaded])
    return context


def _ask(connection: Connection, request: Any, contestant: Contestant) -> Any:
    connection.send(request)
    return _receive(connection, contestant, f'{contestant.title} failed while it was measured')


def _receive(connection: Connection, contestant: Contestant, fault: str) -> Any:
    """Return the next answer of a process.

    Args:
        connection: Our end of its pipe.
        contestant: The contestant that the answer is about.
        fault: What a failure means, for the message.

    Raises:
        UserError: If the answer is a failure, or the process has ended.
    """
    try:
        answer = connection.recv()
    except (EOFError, ConnectionResetError) as error:
        free = os.sysconf('SC_AVPHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') >> 20
        raise UserError(
            f'the process of {contestant.title} ended unexpectedly ({free} MB of memory are free now; if it ran out of '
            'memory, measure fewer models or smaller batches)'
        ) from error
    if isinstance(answer, Failure):
        raise UserError(f'{fault}: {answer.message}')
    return answer
