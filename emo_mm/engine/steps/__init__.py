"""What a run changes in its config, step by step.

A step is a function from the view of the config and the options to the edits that it wants, with the lines to print.
``emo_mm.engine.plan`` has their order, and applies them.
"""
