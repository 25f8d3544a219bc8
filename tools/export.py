#!/usr/bin/env python
"""Export a model for another runtime, and check it there: the same as ``emo-mm export``."""

import sys

from emo_mm.cli import main

if __name__ == '__main__':
    sys.exit(main(['export', *sys.argv[1:]]))
