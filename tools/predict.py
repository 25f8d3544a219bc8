#!/usr/bin/env python
"""Predict boxes, masks or classes of images: the same as ``emo-mm predict``."""

import sys

from emo_mm.cli import main

if __name__ == '__main__':
    sys.exit(main(['predict', *sys.argv[1:]]))
