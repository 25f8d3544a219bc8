#!/usr/bin/env python
"""Export models in all formats, check and time them, and write the table into docs/deployment.md."""

from __future__ import annotations

import argparse
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

from emo_mm.errors import UserError

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Run the measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--models', nargs='+', metavar='NAME', help='configs; those of the document without')
    parser.add_argument('--ways', nargs='+', metavar='FORMAT[,PRECISION]', help='all that are installed without')
    parser.add_argument('--batch', nargs='+', type=int, default=[1, 16], metavar='N')
    parser.add_argument('--rounds', type=int, default=3, metavar='N')
    parser.add_argument('--threads', type=int, default=2, metavar='N')
    parser.add_argument('--images', metavar='DIR', help='photographs to check and calibrate with')
    parser.add_argument(
        '--keep', type=Path, metavar='DIR', help='keep the files there, and make only those that are not'
    )
    parser.add_argument('--kept-only', action='store_true', help='with --keep: only time the files that are there')
    parser.add_argument('--untimed', action='store_true', help='only make and check the files, and print the table')
    parser.add_argument('--out', type=Path, default=ROOT / 'docs' / 'deployment.md', metavar='FILE')
    args = parser.parse_args()

    from emo_mm.export.matrix import MODELS, Plan, matrix, table, write_into

    ways = [(way.split(',')[0], [*way.split(','), 'float32'][1]) for way in args.ways or ()]
    batches = [] if args.untimed else args.batch
    plan = Plan(
        models=args.models or MODELS,
        ways=ways or None,
        batches=batches,
        rounds=args.rounds,
        threads=args.threads,
        images=args.images,
        keep=args.keep,
        make=not args.kept_only,
    )
    try:
        rows = matrix(plain, plan)
        text = table(rows, batches, args.threads)
        print(text)
        if not args.untimed:
            write_into(args.out, text)
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    return 0


def plain(model: Any) -> Any:
    """Return a copy of a model whose backbone is the plain formulation that the tests compare with."""
    import torch
    from torch import nn

    sys.path.insert(0, str(ROOT / 'tests'))
    import reference

    class Plain(nn.Module):
        def __init__(self, backbone: Any) -> None:
            super().__init__()
            self.tensors = {backbone.names.official_key(key): value for key, value in backbone.state_dict().items()}
            self.name, self.window = f'{type(backbone).__name__.lower()}_{backbone.arch}', backbone.window_sizes[-1]
            self.out_indices = backbone.out_indices

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            """Return the maps of ``out_indices``."""
            maps = reference.features(self.name, self.tensors, x, self.window)
            return tuple(maps[index] for index in self.out_indices)

    copy = deepcopy(model)
    copy.backbone = Plain(model.backbone)
    return copy


if __name__ == '__main__':
    sys.exit(main())
