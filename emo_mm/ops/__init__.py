"""PyTorch stand-ins for mmcv's compiled ops, so that no compiler is needed to install or to train.

Where mmcv was installed without its compiled module ``mmcv._ext``, :mod:`emo_mm.ops.ext` takes its place, put there by
:mod:`emo_mm.ops.finder`. Compiled ops, where they are there, always win. See ``docs/ops.md``.
"""
