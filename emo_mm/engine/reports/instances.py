"""The report of an instance segmenter."""

from __future__ import annotations

from emo_mm.engine.reports.detection import DETECTION

INSTANCES = DETECTION
