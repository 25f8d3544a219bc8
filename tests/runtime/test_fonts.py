"""Letters that a font lacks."""

from __future__ import annotations

import pytest
from PIL import ImageFont

from emo_mm.runtime import fonts
from emo_mm.runtime.fonts import drawable, system_font

PLAIN = ImageFont.load_default(12)


def test_plain_names_are_drawn_as_they_are() -> None:
    assert drawable('100% rock & roll', PLAIN) == ('100% rock & roll', PLAIN)


def test_letters_that_no_font_has_are_drawn_by_their_numbers_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, '_WIDE', ())
    system_font.cache_clear()
    with pytest.warns(UserWarning, match="no font here has all letters of '猫'"):
        assert drawable('a 猫', PLAIN) == ('a \\u732b', PLAIN)
    system_font.cache_clear()


def test_a_font_of_the_system_that_has_the_letters_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    matplotlib = pytest.importorskip('matplotlib')
    path = f'{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf'
    monkeypatch.setattr(fonts, '_WIDE', ('no such font.ttf', path))
    system_font.cache_clear()
    text, font = drawable('Кот', PLAIN)
    assert (text, getattr(font, 'path', '')) == ('Кот', path)
    system_font.cache_clear()
