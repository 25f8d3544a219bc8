"""Each class has a colour of its own."""

from __future__ import annotations

import pytest

from emo_mm.runtime.colours import class_colours


@pytest.mark.parametrize('count', [0, 1, 3, 80, 150, 256, 1203])
def test_each_class_has_a_colour_of_its_own_whatever_their_number(count):
    colours = class_colours(count)
    assert len(colours) == len(set(colours)) == count
    assert colours == class_colours(2000)[:count]
    assert all(isinstance(colour, tuple) and len(colour) == 3 for colour in colours)
    assert all(0 <= channel <= 255 for colour in colours for channel in colour)
