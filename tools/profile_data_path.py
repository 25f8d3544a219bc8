#!/usr/bin/env python
"""Show where the time of a training and of an evaluation goes, from the files to the metric."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mmengine.config import DictAction

from emo_mm.benchmark.data_path import format_comparison, format_profile, profile_data_path, write_profiles
from emo_mm.data.splits import DataRequest
from emo_mm.engine.options import RunOptions
from emo_mm.errors import UserError


def main() -> int:
    """Profile a config; print tables, and write them where asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='name (see `emo-mm list`) or path of a config')
    parser.add_argument('--data-root', metavar='DIR', help='another place of the data set, or your own')
    parser.add_argument('--batch-size', type=int, metavar='N', help='training images in a batch')
    parser.add_argument('--iters', type=int, metavar='N', help='training iterations; once through the data set')
    parser.add_argument('--checkpoint', metavar='FILE', help='trained weights, without which no boxes are found')
    parser.add_argument('--threads', type=int, default=1, metavar='N', help='of torch')
    parser.add_argument('--cache', choices=('ram', 'disk'), help='keep decoded images; the first epoch fills the cache')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, default={}, metavar='KEY=VALUE', help='settings to override'
    )
    variant = parser.add_mutually_exclusive_group()
    variant.add_argument('--toolbox-parts', action='store_true', help="the toolbox's own transforms and metric")
    variant.add_argument('--compare', action='store_true', help="first the toolbox's own parts, then those of emo_mm")
    parser.add_argument('--out', type=Path, metavar='PATH', help='write PATH.md and PATH.json')
    args = parser.parse_args()

    import torch

    torch.set_num_threads(args.threads)
    profiles = []
    try:
        for toolbox_parts in (True, False) if args.compare else (args.toolbox_parts,):
            options = RunOptions(
                args.config,
                cfg_options=args.cfg_options,
                data=DataRequest(data_root=args.data_root),
                batch_size=args.batch_size,
                cache=args.cache,
            )
            profiles.append(profile_data_path(options, args.iters, args.checkpoint, toolbox_parts))
            print(f'\n{format_profile(profiles[-1])}')
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    if args.compare:
        print(f'\n{format_comparison(*profiles)}')
    if args.out is not None:
        write_profiles(profiles, args.out)
    return 0


if __name__ == '__main__':
    sys.exit(main())
