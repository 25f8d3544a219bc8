"""Importing this module lets MMEngine read the names of published weights, safely, wherever it reads a checkpoint.

The configs of this package import it, so that ``load_from`` and the toolboxes' own tools and inferencers, which read
the weights before anything of a model is built, take what our tools take.
"""

from emo_mm.weights.toolbox import use_safe_loading

use_safe_loading()
