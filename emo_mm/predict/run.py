"""What ``emo-mm predict`` does."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
from PIL import Image
from tqdm import tqdm

from emo_mm.errors import UserError
from emo_mm.predict.options import PredictOptions
from emo_mm.predict.outputs import Writer
from emo_mm.predict.predictor import load_predictor
from emo_mm.runtime.predictor import Outcome, Predictor
from emo_mm.runtime.results import Classification, Detections
from emo_mm.runtime.sources import Source, find_sources
from emo_mm.tasks import TASKS


def predict(options: PredictOptions) -> int:
    """Predict what the options say; print a line per image that fails, and at the end what was done.

    Returns:
        0, or 1 if an image failed.

    Raises:
        UserError: If the model or a source cannot be loaded.
    """
    # Images of up to 179 million pixels are meant to be read; Pillow warns from half of that on.
    warnings.simplefilter('ignore', Image.DecompressionBombWarning)
    sources = find_sources(options.sources, options.out)  # before the model, which takes longer
    predictor = open_predictor(options)
    writer = open_writer(options, predictor)
    tally = Tally()
    try:
        with tqdm(total=count_images(sources), unit='image', file=sys.stderr) as bar:
            for outcome in written_outcomes(predictor, sources, writer):
                tally = tally.with_one_more(outcome)
                if outcome.error is not None:
                    bar.write(f'error: {outcome.error}', file=sys.stderr)
                elif not options.saves:
                    bar.write(result_line(outcome, predictor.metadata.classes), file=sys.stdout)
                bar.update()
    finally:
        writer.close()
    nms = predictor.metadata.nms
    threshold = None if nms is None else nms.score_threshold
    for line in summary(tally, options.out if options.saves else None, threshold):
        print(line, file=sys.stderr)
    return 1 if tally.failed else 0


@dataclass(frozen=True)
class Tally:
    """How many images were predicted, and what was found.

    Attributes:
        done: Images that were predicted.
        failed: Images that were not.
        boxes: Boxes in all of them.
    """

    done: int = 0
    failed: int = 0
    boxes: int = 0

    def with_one_more(self, outcome: Outcome) -> Tally:
        """Return the tally with an image added."""
        if outcome.error is not None:
            return replace(self, failed=self.failed + 1)
        boxes = len(outcome.result.labels) if isinstance(outcome.result, Detections) else 0
        return replace(self, done=self.done + 1, boxes=self.boxes + boxes)


def open_predictor(options: PredictOptions) -> Predictor:
    """Return the predictor of the options.

    Raises:
        UserError: If the model cannot be loaded, or an option does not apply to it.
    """
    # standard output is for the results; toolboxes log to it
    with redirect_stdout(sys.stderr):
        predictor = load_predictor(options.model, options.weights, options.batch, compiled=options.compiled)
    threshold = options.threshold_for(predictor.metadata.display_threshold)
    if threshold is not None:
        predictor.keep_above(threshold)
    return predictor


def open_writer(options: PredictOptions, predictor: Predictor) -> Writer:
    """Return what saves the results.

    Raises:
        UserError: If the model gives nothing of what is to be saved, or it cannot be saved.
    """
    if options.save_masks and not TASKS[predictor.metadata.task].gives_masks:
        raise UserError(f'--save-masks: {options.model} is no segmenter')
    return Writer(
        options.out,
        predictor.metadata,
        options.save_json,
        options.save_images,
        options.save_masks,
        options.coco_ids,
    )


def count_images(sources: Sequence[Source]) -> int | None:
    """Return the number of images of all sources, None if one cannot tell."""
    counts = [source.count for source in sources]
    return None if None in counts else sum(count or 0 for count in counts)


def written_outcomes(predictor: Predictor, sources: Sequence[Source], writer: Writer) -> Iterator[Outcome]:
    """Yield what became of each image, after it was written; one that cannot be written is an error too."""
    items = chain.from_iterable(source.items() for source in sources)
    outcomes = predictor.stream(items, lambda item: item.read(), keep_pixels=writer.save_images)
    for position, outcome in enumerate(outcomes, 1):
        if outcome.error is None:
            try:
                writer.write(outcome, position)
            except UserError as fault:
                yield replace(outcome, error=str(fault))
                continue
        yield outcome


def summary(tally: Tally, saved_to: str | None, threshold: float | None) -> list[str]:
    """Return the lines that end a prediction.

    Args:
        tally: What was done.
        saved_to: Folder of what was saved; None if nothing was.
        threshold: What boxes had to score more than; None if the model finds no boxes.
    """
    images = 'image' if tally.done == 1 else 'images'
    where = '' if saved_to is None else f'; saved to {saved_to}'
    lines = [f'{tally.done} {images} predicted, {tally.failed} failed{where}']
    if threshold is not None:
        advice = '' if tally.boxes or threshold <= 0.05 else '; --score-threshold 0.05 shows weaker ones'
        lines.append(f'{tally.boxes} {"box scores" if tally.boxes == 1 else "boxes score"} above {threshold:g}{advice}')
    return lines


def result_line(outcome: Outcome, classes: Sequence[str]) -> str:
    """Return a result in one line.

    Args:
        outcome: An outcome without an error.
        classes: Names of the classes.
    """
    result = outcome.result
    if isinstance(result, Classification):
        best = int(result.probabilities.argmax())
        return f'{outcome.item}: {classes[best]} {result.probabilities[best]:.3f}'
    if isinstance(result, Detections):
        named = [f'{classes[k]} {v:.2f}' for k, v in zip(result.labels[:5], result.scores[:5], strict=True)]
        more = f' and {len(result.labels) - 5} more' if len(result.labels) > 5 else ''
        return f'{outcome.item}: {", ".join(named) or "nothing"}{more}'
    assert result is not None
    counts = np.bincount(result.labels.reshape(-1))  # H,W -> H*W
    most = [int(label) for label in np.argsort(-counts)[:5] if counts[label]]
    return f'{outcome.item}: ' + ', '.join(f'{classes[k]} {counts[k] / counts.sum():.0%}' for k in most)
