#!/usr/bin/env python
"""Time the COCO metrics on made-up detections for an annotation file, its images repeated to any number."""

from __future__ import annotations

import argparse
import sys

from emo_mm.benchmark.coco_metric import time_coco_metrics
from emo_mm.errors import UserError


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
