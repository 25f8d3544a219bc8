"""Messages are safe to print whatever is in the files that they speak of."""

from __future__ import annotations

from emo_mm.errors import MismatchError, UserError, first_line, last_line


def test_what_steers_a_terminal_is_escaped_and_lines_stay():
    error = UserError('a\x1b[2J.pth is damaged\ntensor \x00 \ud800 größer 画像\x85')
    assert str(error) == 'a\\x1b[2J.pth is damaged\ntensor \\x00 \\ud800 größer 画像\\x85'


def test_a_line_without_end_is_cut():
    first, second = str(UserError('x' * 10**6 + '\nfix it')).split('\n')
    assert len(first) < 2000
    assert first.endswith('x ...')
    assert second == 'fix it'


def test_a_mismatch_is_escaped_with_and_without_its_advice() -> None:
    error = MismatchError('a.pth', 'tensor \x1b[31mred', 'strict=False loads what matches')
    assert str(error) == 'a.pth does not fit: tensor \\x1b[31mred; strict=False loads what matches'
    assert str(error.without_advice) == 'a.pth does not fit: tensor \\x1b[31mred'


def test_one_line_of_an_error_is_quoted_and_its_type_where_it_says_nothing():
    error = ValueError('\n  why \nTraceback\n  KeyError: what\n')
    assert (first_line(error), last_line(error)) == ('why', 'KeyError: what')
    assert first_line(error, with_type=True) == 'ValueError: why'
    assert (first_line(MemoryError()), last_line(MemoryError(), with_type=True)) == ('MemoryError', 'MemoryError')
    assert len(first_line(ValueError('x' * 10**6))) == 300
