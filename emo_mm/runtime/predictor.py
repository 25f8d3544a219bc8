"""Prediction: photographs in, boxes, masks or probabilities out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from emo_mm.errors import UserError
from emo_mm.machine import available_cores
from emo_mm.runtime.images import check_pixels, read_image
from emo_mm.runtime.metadata import Metadata
from emo_mm.runtime.output_check import check_outputs
from emo_mm.runtime.postprocess import results_of
from emo_mm.runtime.preprocess import Prepared, input_size, make_batch, prepare
from emo_mm.runtime.results import Result
from emo_mm.runtime.sessions import Session, open_session

Image = str | Path | np.ndarray


@dataclass(frozen=True)
class Outcome:
    """What became of one image of a stream.

    Attributes:
        item: What was given for it.
        result: What was predicted; None after an error.
        error: One line that says why there is no result.
        pixels: The photograph, (H, W, 3), uint8, red first, if asked for.
    """

    item: Any
    result: Result | None
    error: str | None = None
    pixels: np.ndarray | None = None


class Predictor:
    """Predicts with a deployed file, or with any other network behind the same interface.

    The network runs in the calling thread, on batches. Threads decode and resize the images ahead of it and select
    boxes behind it.

    Args:
        model: A deployed file, of a kind in ``RUNTIMES``, or a session.
        batch_size: Images that the network gets at once.
        score_threshold: Boxes must score higher; None for the threshold of the file.
        threads: Threads of the runtime, and of decoding; all cores that this process may use if None.

    Raises:
        UserError: If the file cannot be used.
        ValueError: If a number is out of range.
    """

    def __init__(
        self,
        model: str | Path | Session,
        batch_size: int = 1,
        score_threshold: float | None = None,
        threads: int | None = None,
    ) -> None:
        if batch_size < 1 or (threads is not None and threads < 1):
            raise ValueError(f'batch_size is {batch_size} and threads is {threads}; they must be at least 1')
        if isinstance(model, (str, Path)):
            model = open_session(model, threads, batch=1 if batch_size == 1 else None)
        self.session = model
        self.metadata: Metadata = self.session.metadata
        if score_threshold is not None:
            self.keep_above(score_threshold)
        self.batch_size = min(batch_size, self.metadata.input.batch or batch_size)
        self._threads = threads or available_cores()

    def keep_above(self, score_threshold: float) -> None:
        """Keep boxes from now on that score higher; models that find no boxes stay as they are."""
        if self.metadata.nms is not None:
            selection = replace(self.metadata.nms, score_threshold=score_threshold)
            self.metadata = replace(self.metadata, nms=selection)

    def __call__(self, images: Image | Sequence[Image]) -> Any:
        """Predict.

        Args:
            images: A path or an array (H, W, 3), uint8, red first; or a sequence of them.

        Returns:
            A :class:`~emo_mm.runtime.results.Detections`, ``Segmentation`` or ``Classification``; a list of them for a
            sequence.

        Raises:
            UserError: If an image cannot be read.
        """
        single = isinstance(images, (str, Path)) or (isinstance(images, np.ndarray) and images.ndim < 4)
        results = []
        items: Any = [images] if single else images
        for outcome in self.stream(items):
            if outcome.error is not None:
                raise UserError(outcome.error)
            results.append(outcome.result)
        return results[0] if single else results

    def stream(
        self, items: Iterable[Any], read: Callable[[Any], np.ndarray] | None = None, keep_pixels: bool = False
    ) -> Iterator[Outcome]:
        """Predict image by image, in order, and go on where one cannot be read.

        Args:
            items: Images as for a call, or whatever ``read`` takes. They are drawn a few batches ahead.
            read: Returns the pixels of an item, (H, W, 3), uint8, red first; raises ``UserError``. It is called in
                several threads.
            keep_pixels: Whether to return the photographs too.
        """
        read = read or _pixels_of
        items = iter(items)
        with ThreadPoolExecutor(self._threads) as pool:
            # One batch runs while the next is made ready and the last is finished.
            loading: deque[Future[_Loaded]] = deque()
            finishing: deque[Future[list[Outcome]]] = deque()
            while True:
                for item in islice(items, max(2 * self.batch_size, self._threads + 1) - len(loading)):
                    loading.append(pool.submit(self._load, item, read, keep_pixels))
                if not loading:
                    break
                batch = [loading.popleft().result() for _ in range(min(self.batch_size, len(loading)))]
                finishing += self._run(batch, pool)
                while finishing and (len(finishing) > 1 or not loading or finishing[0].done()):
                    yield from finishing.popleft().result()
            for future in finishing:
                yield from future.result()

    def _load(self, item: Any, read: Callable[[Any], np.ndarray], keep_pixels: bool) -> _Loaded:
        try:
            pixels = read(item)
            prepared = prepare(pixels, self.metadata.preprocessing)
            size = input_size(prepared, self.metadata)
        except (UserError, MemoryError) as error:
            return _failed(item, error)
        return _Loaded(item, prepared, size, pixels if keep_pixels else None, None)

    def _run(self, batch: list[_Loaded], pool: ThreadPoolExecutor) -> list[Future[list[Outcome]]]:
        """Run the network on the images of each size, and let threads make results of what it gives."""
        by_size: dict[tuple[int, int], list[int]] = {}
        for index, loaded in enumerate(batch):
            if loaded.prepared is not None:
                by_size.setdefault(loaded.size, []).append(index)
        parts = []
        for size, indices in by_size.items():
            images = [prepared for index in indices if (prepared := batch[index].prepared) is not None]
            try:
                pixels = make_batch(images, size, self.metadata)
                outputs = self.session.run(pixels)
                check_outputs(outputs, len(pixels), size, self.metadata)
            except (UserError, MemoryError) as error:
                for index in indices:
                    batch[index] = _failed(batch[index].item, error)
                continue
            # half precision only saves memory inside the graph
            outputs = [x.astype(np.float32, copy=False) if x.dtype.kind == 'f' else x for x in outputs]
            parts.append((indices, outputs, images, size))
        return [pool.submit(self._finish, batch, parts)]

    def _finish(self, batch: list[_Loaded], parts: list[tuple[list[int], Any, Any, tuple[int, int]]]) -> list[Outcome]:
        results: list[Result | None] = [None] * len(batch)
        for indices, outputs, images, size in parts:
            try:
                found = results_of(outputs, images, size, self.metadata)
            except MemoryError as error:  # a photograph may be far larger than the input
                batch = [_failed(x.item, error) if index in indices else x for index, x in enumerate(batch)]
                continue
            for index, result in zip(indices, found, strict=True):
                results[index] = result
        return [
            Outcome(loaded.item, result, loaded.error, loaded.pixels)
            for loaded, result in zip(batch, results, strict=True)
        ]


@dataclass(frozen=True)
class _Loaded:
    item: Any
    prepared: Prepared | None
    size: tuple[int, int]
    pixels: np.ndarray | None
    error: str | None


def _failed(item: Any, error: UserError | MemoryError) -> _Loaded:
    in_memory = isinstance(item, np.ndarray)
    name = f'an image of {item.shape}' if in_memory else str(item)
    reason = str(error) if isinstance(error, UserError) else f'{name}: does not fit into memory'
    if not in_memory and name not in reason:
        reason = f'{name}: {reason}'
    return _Loaded(item, None, (0, 0), None, reason)


def _pixels_of(image: Image) -> np.ndarray:
    return check_pixels(image) if isinstance(image, np.ndarray) else read_image(image)
