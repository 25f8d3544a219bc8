"""Letters that the usual font lacks: drawn in a font of the system that has them, or else by their numbers."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from functools import lru_cache

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# Files of fonts for many writing systems, as systems and their packages call them; Pillow knows where they lie.
_WIDE = (
    'NotoSansCJK-Regular.ttc', 'NotoSansCJKsc-Regular.otf', 'NotoSansSC-Regular.otf', 'SourceHanSans-Regular.ttc',
    'wqy-microhei.ttc', 'wqy-zenhei.ttc', 'DroidSansFallbackFull.ttf', 'msyh.ttc', 'simsun.ttc', 'msgothic.ttc',
    'YuGothR.ttc', 'malgun.ttf', 'NanumGothic.ttf', 'PingFang.ttc', 'Hiragino Sans GB.ttc', 'AppleSDGothicNeo.ttc',
    'Arial Unicode.ttf', 'arialuni.ttf', 'NotoSans-Regular.ttf', 'NotoSansArabic-Regular.ttf',
    'NotoSansDevanagari-Regular.ttf', 'NotoSansThai-Regular.ttf', 'NotoSansHebrew-Regular.ttf', 'DejaVuSans.ttf',
    'LiberationSans-Regular.ttf', 'segoeui.ttf', 'arial.ttf', 'unifont.otf', 'unifont.ttf',
)  # fmt: skip
_NO_LETTER = '\uffff'


def drawable(text: str, font: Font) -> tuple[str, Font]:
    """Return a text as it can be drawn, and the font to draw it in.

    Args:
        text: The text.
        font: The font to take if it has all letters.
    """
    if text.isascii() or _has(font, text):
        return text, font
    letters = ''.join(sorted({letter for letter in text if not letter.isascii()}))
    other = system_font(letters, round(getattr(font, 'size', 11)))
    if other is not None:
        return text, other
    return ''.join(letter if _has(font, letter) else f'\\u{ord(letter):04x}' for letter in text), font


@lru_cache(maxsize=1024)
def system_font(letters: str, size: int) -> ImageFont.FreeTypeFont | None:
    """Return a font of the system that has some letters; None, with a warning, where there is none."""
    for name in _WIDE:
        font = _load(name, size)
        if font is not None and _has(font, letters):
            return font
    warnings.warn(
        f'no font here has all letters of {letters!r}, so those that are missing are drawn by their numbers; '
        'NotoSansCJK has most (on Debian: apt install fonts-noto-cjk)',
        stacklevel=2,
    )
    return None


@lru_cache
def _load(name: str, size: int) -> ImageFont.FreeTypeFont | None:
    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None


def _has(font: Font, letters: Iterable[str]) -> bool:
    """Tell whether a font has all of some letters, whose pictures then differ from that of a letter that is none."""
    if not isinstance(font, ImageFont.FreeTypeFont):
        return all(letter <= '\xff' for letter in letters)  # Pillow's picture font, where it has no FreeType
    return all(letter.isascii() or _picture(font, letter) != _picture(font, _NO_LETTER) for letter in letters)


def _picture(font: ImageFont.FreeTypeFont, letter: str) -> tuple[object, bytes]:
    mask = font.getmask(letter)
    return mask.size, bytes(mask)
