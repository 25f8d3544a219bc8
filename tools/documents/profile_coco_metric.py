#!/usr/bin/env python
"""Time mmdet's COCO metrics on made-up detections for an annotation file, its images repeated to any number."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emo_mm.errors import UserError

BOXES = 100  # found per image, as many as COCO counts


def time_coco_metrics(ann_file: str | Path, copies: int, seed: int = 0) -> dict[str, dict[str, float]]:
    """Evaluate the same made-up detections with each of the metrics that the stack has.

    The detections are the true boxes, moved at random, and random ones, 100 per image.

    Args:
        ann_file: Annotations in COCO's format.
        copies: How often its images are repeated under new ids.
        seed: Seed of the detections.

    Returns:
        For each metric, ``seconds`` of processor time for the evaluation, with the collecting of predictions but
        without the reading of the truth, and the figures that it found.

    Raises:
        UserError: If ``copies`` is below 1 or there is no such file.
    """
    from mmdet.registry import METRICS

    from emo_mm.compat import register_toolbox

    if copies < 1:
        raise UserError(f'copies is {copies}; at least 1 is needed')
    if not Path(ann_file).is_file():
        raise UserError(f'{ann_file}: there is no such file')
    register_toolbox('mmdet')
    truth = _repeated(json.loads(Path(ann_file).read_text()), copies)
    samples = _detections(truth, np.random.default_rng(seed))
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'truth.json'
        path.write_text(json.dumps(truth))
        for name in ('CocoMetric', 'FasterCocoMetric'):
            if METRICS.get(name) is None:
                continue
            metric = METRICS.build(dict(type=name, ann_file=str(path), metric='bbox'))
            metric.dataset_meta = {'classes': [category['name'] for category in truth['categories']]}
            start = time.process_time()
            metric.process({}, samples)
            figures = metric.evaluate(len(samples))
            seconds = time.process_time() - start
            results[name] = {'seconds': seconds, **{key: float(value) for key, value in figures.items()}}
    return results


def _repeated(truth: dict[str, Any], copies: int) -> dict[str, Any]:
    """Return annotations with their images ``copies`` times, ids counted on."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    new_ids: dict[tuple[int, int], int] = {}
    for copy in range(copies):
        for image in truth['images']:
            new_ids[copy, image['id']] = len(images) + 1
            images.append({**image, 'id': len(images) + 1})
        for annotation in truth['annotations']:
            image_id = new_ids[copy, annotation['image_id']]
            kept = {key: value for key, value in annotation.items() if key != 'segmentation'}
            annotations.append({**kept, 'id': len(annotations) + 1, 'image_id': image_id})
    return {'images': images, 'annotations': annotations, 'categories': truth['categories']}


def _detections(truth: dict[str, Any], rng: np.random.Generator) -> list[dict[str, Any]]:
    labels = {category['id']: index for index, category in enumerate(truth['categories'])}
    boxes: dict[int, list[list[float]]] = {image['id']: [] for image in truth['images']}
    classes: dict[int, list[int]] = {image['id']: [] for image in truth['images']}
    for annotation in truth['annotations']:
        left, top, width, height = annotation['bbox']
        boxes[annotation['image_id']].append([left, top, left + width, top + height])
        classes[annotation['image_id']].append(labels[annotation['category_id']])
    samples = []
    for image in truth['images']:
        shape = (image['height'], image['width'])
        true = np.array(boxes[image['id']], np.float32).reshape(-1, 4)[:BOXES]
        moved = true + rng.normal(0, 6, true.shape)
        corners = rng.uniform(0, 0.7, (BOXES - len(true), 2)) * shape[::-1]
        edges = rng.uniform(0.05, 0.3, corners.shape) * shape[::-1]
        found = np.concatenate([moved, np.concatenate([corners, corners + edges], axis=1)])  # BOXES,4
        found_classes = [*classes[image['id']][:BOXES], *rng.integers(len(labels), size=len(corners))]
        predicted = {
            'bboxes': torch.tensor(found, dtype=torch.float32),
            'scores': torch.tensor(rng.random(BOXES), dtype=torch.float32),
            'labels': torch.tensor(np.array(found_classes)),
        }
        samples.append({'img_id': image['id'], 'ori_shape': shape, 'pred_instances': predicted})
    return samples


def main() -> int:
    """Print seconds and figures of each metric."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('ann_file', help="annotations in COCO's format")
    parser.add_argument('--copies', type=int, default=1, metavar='N', help='how often the images are repeated')
    args = parser.parse_args()
    try:
        for name, figures in time_coco_metrics(args.ann_file, args.copies).items():
            print(name, ', '.join(f'{key} {value:.3f}' for key, value in figures.items()))
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
