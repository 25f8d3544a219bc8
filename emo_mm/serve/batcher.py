"""Requests that wait for the network, which takes those that are there when it becomes free."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from emo_mm.errors import UserError
from emo_mm.runtime.predictor import Predictor
from emo_mm.runtime.results import Result


class QueueFullError(Exception):
    """As many requests wait as may."""


@dataclass(frozen=True)
class Waiting:
    """An image that waits.

    Attributes:
        pixels: (H, W, 3), uint8, red first.
        answer: What becomes of it: a result, or a ``UserError``.
    """

    pixels: np.ndarray
    answer: Future[Result] = field(default_factory=Future)

    def __str__(self) -> str:
        return 'the image'


class Batcher:
    """Runs a predictor in a thread of its own, on one batch after another.

    No request waits for others to come: a batch is what has gathered while the one before it ran.

    Args:
        predictor: The predictor, with its batch size.
        max_queue: Images that may wait.
        on_batch: Called with the size of each batch.
    """

    def __init__(
        self, predictor: Predictor, max_queue: int, on_batch: Callable[[int], None] = lambda size: None
    ) -> None:
        self._predictor = predictor
        self._queue: queue.Queue[Waiting | None] = queue.Queue(max_queue)
        self._on_batch = on_batch
        self._thread = threading.Thread(target=self._work, name='prediction', daemon=True)
        self._thread.start()

    def submit(self, pixels: np.ndarray) -> Future[Result]:
        """Let an image wait for the network.

        Args:
            pixels: (H, W, 3), uint8, red first.

        Returns:
            Its result, which raises ``UserError`` where there is none.

        Raises:
            QueueFullError: If as many wait as may.
        """
        waiting = Waiting(pixels)
        try:
            self._queue.put_nowait(waiting)
        except queue.Full:
            raise QueueFullError from None
        return waiting.answer

    def close(self) -> None:
        """Answer those that wait, and end the thread."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (first := self._queue.get()) is not None:
            batch = [first]
            while len(batch) < self._predictor.batch_size:
                try:
                    another = self._queue.get_nowait()
                except queue.Empty:
                    break
                if another is None:
                    self._queue.put(None)  # for the loop around
                    break
                batch.append(another)
            self._answer([waiting for waiting in batch if waiting.answer.set_running_or_notify_cancel()])

    def _answer(self, batch: list[Waiting]) -> None:
        if not batch:
            return
        self._on_batch(len(batch))
        try:
            for outcome in self._predictor.stream(batch, lambda waiting: waiting.pixels):
                answer: Future[Result] = outcome.item.answer
                if outcome.result is None:
                    answer.set_exception(UserError(outcome.error or 'cannot be predicted'))
                else:
                    answer.set_result(outcome.result)
        except Exception as error:  # whatever a runtime raises: these requests fail, and the next are answered
            for waiting in batch:
                if not waiting.answer.done():
                    waiting.answer.set_exception(error)
