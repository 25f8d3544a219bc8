#!/usr/bin/env python
"""Measure models: the same as ``emo-mm benchmark``."""

import sys

from emo_mm.cli import main

if __name__ == '__main__':
    sys.exit(main(['benchmark', *sys.argv[1:]]))
