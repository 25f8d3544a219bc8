#!/usr/bin/env python
"""Measure prediction end to end (JPEG files in, boxes out) against mmdet's DetInferencer."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from emo_mm.errors import UserError


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

    from emo_mm.benchmark.end_to_end import compare_with_inferencer, format_table

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
