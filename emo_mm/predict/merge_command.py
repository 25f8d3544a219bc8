"""``emo-mm merge``."""

from __future__ import annotations

import argparse
from pathlib import Path

NAME = 'merge'
HELP = 'one file of results from the parts that predict --save-parquet wrote'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument('out', metavar='DIR', help='the folder given to predict as --out')
    parser.add_argument(
        '--coco-ids',
        metavar='FILE',
        help='COCO annotation file whose numbers of images and classes are used in results.json',
    )


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from emo_mm.predict.merge import merge

    return merge(Path(args.out), args.coco_ids)
