#!/usr/bin/env python
"""Train a model: the same as ``emo-mm train``."""

import sys

from emo_mm.cli import main

if __name__ == '__main__':
    sys.exit(main(['train', *sys.argv[1:]]))
