"""What ``emo-mm predict`` does."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from emo_mm.errors import UserError
from emo_mm.predict.outputs import Writer
from emo_mm.runtime.predictor import Outcome, Predictor
from emo_mm.runtime.results import Classification, Detections
from emo_mm.runtime.runtimes import is_deployed, runnable_suffixes
from emo_mm.runtime.sources import find_sources
from emo_mm.tasks import TASKS
from emo_mm.weights import CHECKPOINT_SUFFIXES
from emo_mm.weights.hub import local_model

# Boxes that score lower are seldom worth looking at; models keep those above 0.02 or so, for evaluations.
DISPLAY_THRESHOLD = 0.3


@dataclass(frozen=True)
class PredictOptions:
    """What the command line of ``predict`` gives.

    Attributes:
        sources: Images, folders, globs, addresses, videos and cameras.
        model: A deployed file, the name or path of a config, or a checkpoint.
        weights: The checkpoint for a config.
        out: Folder for what is saved.
        save_json: Whether to save ``results.json``.
        save_images: Whether to save photographs with the results drawn in.
        save_masks: Whether to save label maps.
        coco_ids: COCO annotation file that numbers images and classes.
        batch: Images that the network gets at once.
        score_threshold: Boxes must score higher; None for ``DISPLAY_THRESHOLD``; or with ``coco_ids``, whose results
            are for an evaluation, for the model's own.
        compiled: Whether to compile a PyTorch model.
    """

    sources: Sequence[str]
    model: str
    weights: str | None = None
    out: str = 'predictions'
    save_json: bool = False
    save_images: bool = False
    save_masks: bool = False
    coco_ids: str | None = None
    batch: int = 1
    score_threshold: float | None = None
    compiled: bool = False


def predict(options: PredictOptions) -> int:
    """Predict what the options say; print a line per image that fails, and at the end what was done.

    Returns:
        0, or 1 if an image failed.

    Raises:
        UserError: If the model or a source cannot be had.
    """
    if options.batch < 1:
        raise UserError(f'--batch is {options.batch}; it must be at least 1')
    if options.score_threshold is not None and not 0 <= options.score_threshold <= 1:
        raise UserError(f'--score-threshold is {options.score_threshold}; it must be 0 to 1')
    # Images of up to 179 million pixels are meant to be read; Pillow warns from half of that on.
    warnings.simplefilter('ignore', Image.DecompressionBombWarning)
    sources = find_sources(options.sources)  # before the model, which takes longer
    predictor = _open(_with_defaults(options))
    if options.save_masks and not TASKS[predictor.metadata.task].gives_masks:
        raise UserError(f'--save-masks: {options.model} is no segmenter')
    writer = Writer(
        options.out,
        predictor.metadata,
        options.save_json,
        options.save_images,
        options.save_masks,
        options.coco_ids,
    )
    counts = [source.count for source in sources]
    total = None if None in counts else sum(count or 0 for count in counts)
    done = failed = boxes = 0
    items = chain.from_iterable(source.items() for source in sources)
    saves = options.save_json or options.save_images or options.save_masks
    try:
        with tqdm(total=total, unit='image', file=sys.stderr) as bar:
            for outcome in predictor.stream(items, lambda item: item.read(), keep_pixels=writer.save_images):
                error = outcome.error
                if error is None:
                    try:
                        writer.write(outcome)
                    except UserError as fault:
                        error = str(fault)
                if error is not None:
                    failed += 1
                    bar.write(f'error: {error}', file=sys.stderr)
                else:
                    done += 1
                    boxes += len(outcome.result.labels) if isinstance(outcome.result, Detections) else 0
                    if not saves:
                        bar.write(_line(outcome, predictor.metadata.classes), file=sys.stdout)
                bar.update()
    finally:
        writer.close()
    where = f'; saved to {options.out}' if saves else ''
    print(f'{done} {"image" if done == 1 else "images"} predicted, {failed} failed{where}', file=sys.stderr)
    if predictor.metadata.nms is not None:
        print(_boxes_line(boxes, predictor.metadata.nms.score_threshold), file=sys.stderr)
    return 1 if failed else 0


def _with_defaults(options: PredictOptions) -> PredictOptions:
    """Return the options with a model of the Hub downloaded, and with the score threshold that applies."""
    threshold = options.score_threshold
    if threshold is None and options.coco_ids is None:
        threshold = DISPLAY_THRESHOLD
    return replace(options, model=local_model(options.model), score_threshold=threshold)


def _boxes_line(boxes: int, threshold: float) -> str:
    advice = '' if boxes or threshold < 0.05 else '; --score-threshold 0.05 shows weaker ones'
    return f'{boxes} {"box scores" if boxes == 1 else "boxes score"} above {threshold:g}{advice}'


def _open(options: PredictOptions) -> Predictor:
    if is_deployed(options.model):
        for flag, given in (('--weights', options.weights), ('--compile', options.compiled)):
            if given:
                raise UserError(f'{flag}: {options.model} is a deployed file, to which it does not apply')
        return Predictor(options.model, options.batch, options.score_threshold)
    try:
        from emo_mm.predict.session import torch_predictor
    except ImportError as error:
        raise UserError(
            f'--model {options.model}: a model in PyTorch needs what is missing here ({error.name}); without it only '
            f'deployed files ({", ".join(runnable_suffixes())}) can be used'
        ) from None
    try:
        # standard output is for the results; toolboxes log to it
        with redirect_stdout(sys.stderr):
            return torch_predictor(
                options.model, options.weights, options.batch, options.score_threshold, compiled=options.compiled
            )
    except UserError as error:
        path = Path(options.model)
        if not path.exists() or path.suffix in ('.py', *CHECKPOINT_SUFFIXES):
            raise
        run_here = ', '.join((*runnable_suffixes(), *CHECKPOINT_SUFFIXES))
        raise UserError(
            f'{error}; of files, {run_here} are run here: export the model to one of these formats too, with emo-mm '
            'export --format onnx'
        ) from None


def _line(outcome: Outcome, classes: Sequence[str]) -> str:
    """Return a result in one line."""
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
