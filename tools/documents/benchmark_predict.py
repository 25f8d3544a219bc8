#!/usr/bin/env python
"""Measure prediction end to end (JPEG files in, boxes out) against mmdet's DetInferencer."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from detectors import matched_share, random_detector

from emo_mm.config.names import get_config
from emo_mm.errors import UserError
from emo_mm.predict.session import torch_predictor
from emo_mm.runtime import Detections, Predictor

if TYPE_CHECKING:
    from mmengine.config import Config


@dataclass(frozen=True)
class Throughput:
    """How one way of predicting did.

    Attributes:
        name: What ran.
        batch: Images that the network got at once.
        images_per_second: Median of the rounds.
        ratio: Median over the rounds of its throughput to that of ``DetInferencer`` in the same round.
        boxes: Boxes that ``DetInferencer`` found.
        matched: Share of boxes, of both, that the other has within the tolerances.
    """

    name: str
    batch: int
    images_per_second: float
    ratio: float
    boxes: int
    matched: float


def compare_with_inferencer(
    config: str,
    images: Sequence[str | Path],
    weights: str | None = None,
    batches: Sequence[int] = (1, 16),
    rounds: int = 5,
    compiled: bool = False,
    deployed: Sequence[str | Path] = (),
) -> list[Throughput]:
    """Predict the same images in all ways, in turns, and compare throughput and boxes.

    Args:
        config: Name or path of a detector's config.
        images: Image files.
        weights: A checkpoint; random weights with scores on both sides of the threshold if None.
        batches: Numbers of images at once.
        rounds: Turns that are timed, after one that is not.
        compiled: Whether to run the compiled model too.
        deployed: Exported files of the same checkpoint to run too.

    Returns:
        One entry for each way and batch, ``DetInferencer`` first.

    Raises:
        UserError: If the config is not of a single-stage detector, or a file cannot be used.
    """
    cfg = get_config(config)
    if 'bbox_head' not in cfg.model:
        raise UserError(f'{config} has no bbox_head: give the config of a single-stage detector')
    paths = [str(path) for path in images]
    found = []
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = weights or str(Path(folder) / 'random.pth')
        if weights is None:
            torch.save({'state_dict': random_detector(cfg, paths[:4]), 'meta': {}}, checkpoint)
        inferencer = _inferencer(cfg, checkpoint, Path(folder) / 'config.py')
        for batch in batches:
            predictors = {'emo_mm, fused': torch_predictor(config, checkpoint, batch)}
            if compiled:
                predictors['emo_mm, compiled'] = torch_predictor(config, checkpoint, batch, compiled=True)
            predictors |= {f'emo_mm, {Path(path).name}': Predictor(path, batch) for path in deployed}
            ways: dict[str, Callable[[], list[Detections]]] = {
                'DetInferencer': partial(_by_inferencer, inferencer, paths, batch)
            }
            ways |= {name: partial(predictor, paths) for name, predictor in predictors.items()}
            found += _measure(ways, batch, rounds, len(paths))
    return found


def format_table(found: Sequence[Throughput]) -> str:
    """Return the comparison as a Markdown table."""
    lines = [
        '| | batch | images/s | × DetInferencer | boxes alike |',
        '|---|---:|---:|---:|---:|',
        *(
            f'| {x.name} | {x.batch} | {x.images_per_second:.1f} | {x.ratio:.2f} | {x.matched:.2%} of {x.boxes} |'
            for x in found
        ),
    ]
    return '\n'.join(lines)


def _measure(ways: dict[str, Callable[[], list[Detections]]], batch: int, rounds: int, count: int) -> list[Throughput]:
    results = {name: way() for name, way in ways.items()}  # warm-up
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    reference = next(iter(ways))
    boxes = sum(len(found.labels) for found in results[reference])
    return [
        Throughput(
            name=name,
            batch=batch,
            images_per_second=count / median(times),
            ratio=median(other / own for other, own in zip(seconds[reference], times, strict=True)),
            boxes=boxes,
            matched=matched_share(results[name], results[reference]),
        )
        for name, times in seconds.items()
    ]


def _inferencer(cfg: Config, checkpoint: str, path: Path) -> Any:
    from mmdet.apis import DetInferencer

    from emo_mm.weights import use_safe_loading

    use_safe_loading()
    cfg.model.backbone.pop('init_cfg', None)
    cfg.dump(str(path))
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    return DetInferencer(str(path), checkpoint, device=device, show_progress=False)


def _by_inferencer(inferencer: Any, paths: list[str], batch: int) -> list[Detections]:
    found = inferencer(paths, batch_size=batch, no_save_vis=True, no_save_pred=True, return_datasamples=True)
    instances = [sample.pred_instances.cpu().numpy() for sample in found['predictions']]
    return [Detections(found.bboxes, found.scores, found.labels) for found in instances]


def main() -> int:
    """Run the comparison; print a table, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('images', help='folder of JPEG files')
    parser.add_argument('--config', default='ssdlite_emo_2m_coco', help='a detector')
    parser.add_argument('--weights', help='checkpoint; random weights without')
    parser.add_argument('--batch', nargs='+', type=int, default=[1, 16], metavar='N')
    parser.add_argument('--rounds', type=int, default=5, metavar='N')
    parser.add_argument('--limit', type=int, metavar='N', help='images to use at most')
    parser.add_argument('--compile', action='store_true', help='also the compiled model')
    parser.add_argument('--also', nargs='+', default=[], metavar='FILE', help='also exported files of the checkpoint')
    parser.add_argument('--json', metavar='FILE', help='for the figures')
    args = parser.parse_args()

    images = sorted(Path(args.images).glob('*.jpg'))[: args.limit]
    try:
        if not images:
            raise UserError(f'{args.images}: the folder has no .jpg files')
        found = compare_with_inferencer(
            args.config, images, args.weights, args.batch, args.rounds, args.compile, args.also
        )
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    print(format_table(found))
    if args.json:
        Path(args.json).write_text(json.dumps([asdict(entry) for entry in found], indent=1))
    return 0


if __name__ == '__main__':
    sys.exit(main())
