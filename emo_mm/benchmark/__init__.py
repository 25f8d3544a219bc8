"""What a model costs."""

from emo_mm.benchmark.counting import COUNTER, Complexity, count

__all__ = ['COUNTER', 'Complexity', 'count']
