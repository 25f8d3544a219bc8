"""Stopping a training from outside: SIGTERM and Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.queues import Queue
from typing import Any, NoReturn

from emo_mm.engine.distributed import is_first

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# torchrun passes on the Ctrl-C that its processes have already had from the terminal.
_SAME_SIGNAL_SECONDS = 3.0


class TrainingStopped(SystemExit):
    """End a training that a signal stopped, once it is saved, with the usual exit code: 128 + number of the signal."""

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)


class StopRequest:
    """Whether a signal has asked the training to stop.

    Attributes:
        signum: The signal, 0 where there was none.
    """

    def __init__(self) -> None:
        self.signum = 0
        self._time = 0.0
        self._process = os.getpid()

    def receive(self, signum: int, frame: object) -> None:
        """Note the first signal; leave at once at the second."""
        if os.getpid() != self._process:
            return  # a loader process, forked from this one: it ends with this one
        now = time.monotonic()
        if not self.signum:
            self.signum, self._time = signum, now
            _say(f'{signal.Signals(signum).name}: saving a checkpoint after this iteration; once more leaves at once')
        elif 'RANK' not in os.environ or now - self._time > _SAME_SIGNAL_SECONDS:
            _leave(signum)


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Collect SIGTERM and SIGINT in the returned object instead of dying of them, as long as the context lasts."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request  # Python lets the main thread alone handle signals
        return
    former = {signum: signal.signal(signum, request.receive) for signum in _SIGNALS}
    try:
        yield request
    finally:
        for signum, handler in former.items():
            signal.signal(signum, handler)


def start_worker(worker_id: int, init: Callable[[int], None] | None) -> None:
    """Start a loader process that leaves signals to the process that it loads for.

    Schedulers and terminals send signals to all processes of a job. Without this the loaders would die of them first,
    and the training would fail on their death before it could save.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, 'sigwaitinfo'):  # Linux
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_obey_parent_only, args=(os.getppid(),), daemon=True).start()
    # A batch that cannot be passed on is reported and dropped, and the training would wait for it for ever.
    Queue._on_queue_feeder_error = staticmethod(_die_of)  # type: ignore[attr-defined]
    if init is not None:
        init(worker_id)


def _die_of(error: Exception, batch: Any) -> NoReturn:
    """End a loader process that cannot pass on a batch, so that the training notices."""
    if 'shared memory' in str(error):
        signal.raise_signal(signal.SIGBUS)  # as where the kernel notices first; PyTorch says what it means
    traceback.print_exception(error)
    os._exit(1)


def _obey_parent_only(parent: int) -> NoReturn:
    while True:
        if signal.sigwaitinfo({signal.SIGTERM}).si_pid == parent:
            os._exit(0)


def _leave(signum: int) -> NoReturn:
    _say('leaving at once')
    os._exit(128 + signum)


def _say(text: str) -> None:
    if is_first():
        # Not by print, whose buffer the signal may have come in the middle of.
        os.write(2, f'\n{text}\n'.encode())
