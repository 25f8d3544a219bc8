"""From JPEG files to boxes: our predictor against mmdet's ``DetInferencer``, in one interleaved run."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from emo_mm.config.build import build_from_config
from emo_mm.config.names import get_config
from emo_mm.errors import UserError
from emo_mm.predict.session import torch_predictor
from emo_mm.runtime import Detections, Predictor

if TYPE_CHECKING:
    from mmengine.config import Config

BOX_TOLERANCE = 1e-3  # pixels
SCORE_TOLERANCE = 1e-4
_LOGIT_SPREAD = 2.0  # standard deviation that gives random weights scores on both sides of a threshold


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
        UserError: If the config is no detector's, or a file cannot be used.
    """
    cfg = get_config(config)
    if cfg.default_scope != 'mmdet':
        raise UserError(f'{config} is no detector')
    paths = [str(path) for path in images]
    found = []
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = weights or str(Path(folder) / 'random.pth')
        if weights is None:
            torch.save({'state_dict': random_detector(cfg, paths[:4]), 'meta': {}}, checkpoint)
        inferencer = _inferencer(cfg, checkpoint, Path(folder) / 'config.py')
        for batch in batches:
            ways: dict[str, Callable[[], list[Detections]]] = {
                'DetInferencer': lambda batch=batch: _by_inferencer(inferencer, paths, batch),  # type: ignore[misc]
                'emo_mm, fused': _by_predictor(torch_predictor(config, checkpoint, batch), paths),
            }
            if compiled:
                predictor = torch_predictor(config, checkpoint, batch, compiled=True)
                ways['emo_mm, compiled'] = _by_predictor(predictor, paths)
            for path in deployed:
                ways[f'emo_mm, {Path(path).name}'] = _by_predictor(Predictor(path, batch), paths)
            found += _measure(ways, batch, rounds, len(paths))
    return found


def random_detector(cfg: Config, images: Sequence[str], seed: int = 0) -> dict[str, torch.Tensor]:
    """Return random weights of a detector that finds something in photographs.

    Args:
        cfg: The config.
        images: Photographs to scale by.
        seed: Of the random numbers.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_from_config(cfg)
        spread_scores(model, cfg, images)
    return {key: value.clone() for key, value in model.state_dict().items()}


@torch.inference_mode()
def spread_scores(model: Any, cfg: Config, images: Sequence[str]) -> None:
    """Scale the last layers of a detector's classifier so that its logits spread.

    Untrained ones are all alike, and so are the scores, whose order would be chance.

    Args:
        model: The detector.
        cfg: Its config.
        images: Photographs to scale by.
    """
    from emo_mm.predict.describe import preprocessing_of
    from emo_mm.runtime.images import read_image
    from emo_mm.runtime.preprocess import prepare

    how = preprocessing_of(cfg)
    head = model.bbox_head
    logits = []
    for path in images:
        pixels = torch.from_numpy(prepare(read_image(path), how).pixels.copy()).float()
        normal = (pixels - torch.tensor(how.mean)) / torch.tensor(how.std)
        scores, _ = head(model.extract_feat(normal.permute(2, 0, 1)[None]))  # h,w,3 -> 1,3,h,w
        logits.append(torch.cat([level.flatten() for level in scores]))
    scale = _LOGIT_SPREAD / torch.cat(logits).std()
    for name, parameter in model.named_parameters():
        if name.startswith(('bbox_head.cls_convs', 'bbox_head.retina_cls')) and _is_last(head, name, parameter):
            parameter.mul_(scale)


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


def matched_share(ours: Sequence[Detections], theirs: Sequence[Detections]) -> float:
    """Return the share of boxes, of both, that have a partner of the same class within the tolerances."""
    alike = total = 0
    for one, other in zip(ours, theirs, strict=True):
        # pairs (K, L)
        near = np.abs(one.boxes[:, None] - other.boxes[None]).max(-1, initial=0) <= BOX_TOLERANCE
        near &= np.abs(one.scores[:, None] - other.scores[None]) <= SCORE_TOLERANCE
        near &= one.labels[:, None] == other.labels[None]
        alike += int(near.any(1).sum() + near.any(0).sum())
        total += sum(near.shape)
    return alike / total if total else 1.0


def _is_last(head: Any, name: str, parameter: torch.Tensor) -> bool:
    """Tell a parameter of the last layer of a classifier by its number of outputs: anchors x classes."""
    return parameter.shape[0] in {count * head.cls_out_channels for count in head.prior_generator.num_base_priors}


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


def _by_predictor(predictor: Predictor, paths: list[str]) -> Callable[[], list[Detections]]:
    return lambda: predictor(paths)
