#!/usr/bin/env python
"""Record what mmcv's compiled ops answer, for the tests of the stand-ins: ``tests/data/ops/compiled.npz``.

Run it in an environment with a compiled mmcv (``OPS=compiled make env``), from the clone:

    .venv/bin/python tools/documents/record_ops.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    """Record every case; refuse if the stand-ins, not compiled ops, would answer."""
    sys.path.insert(0, str(ROOT / 'tests'))
    from ops.cases import CASES

    from emo_mm.ops.install import ops_in_use, provider

    if ops_in_use() != 'compiled':
        print(f'error: mmcv has no compiled ops here ({ops_in_use()}): OPS=compiled make env FORCE=1', file=sys.stderr)
        return 1
    target = ROOT / 'tests' / 'data' / 'ops' / 'compiled.npz'
    target.parent.mkdir(exist_ok=True)
    answers = {f'{case}/{name}': array for case, run in CASES.items() for name, array in run().items()}
    np.savez_compressed(target, **answers)
    print(f'{len(CASES)} cases of {provider()} in {target.relative_to(ROOT)}, {target.stat().st_size / 1024:.0f} kB')
    return 0


if __name__ == '__main__':
    sys.exit(main())
