#!/usr/bin/env python
"""Evaluate a checkpoint: the same as ``emo-mm test``."""

import sys

from emo_mm.cli import main

if __name__ == '__main__':
    sys.exit(main(['test', *sys.argv[1:]]))
