"""A page is whole in one file, and shows what it is given as it is."""

import csv
import re

import numpy as np
import pytest

from emo_mm.report.charts import Line, bar_chart, histogram, line_chart, matrix_chart
from emo_mm.report.page import Figure, Page, Picture, Section, Table, shown, write_csv, write_page

NAMES = ('猫', '<b>dog</b>', '$x$ & _y')


@pytest.fixture
def page():
    svg = line_chart({'a': Line(np.array([0, 1]), np.array([0, 1]))}, 'x', 'y')
    table = Table(('class', 'AP'), tuple((name, 0.5) for name in NAMES), 'Classes', 'a caption')
    sections = (
        Section('Results', ('Text <script>alert(1)</script>.',), ('emo-mm train a',), (table,)),
        Section('Charts', pictures=(Picture('a chart', svg, '.svg', 'its caption'),)),
    )
    return Page('Training of a', 'detection', (Figure('AP', 0.1234), Figure('images', 1200)), sections)


def test_a_page_needs_nothing_from_elsewhere_and_runs_no_script(page, tmp_path):
    write_page(page, tmp_path / 'a.html')
    text = (tmp_path / 'a.html').read_text(encoding='utf-8')
    assert '<script' not in text
    addresses = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert addresses
    assert all(one.startswith(('data:image/', '#')) for one in addresses)
    assert 'url(' not in text
    assert '@import' not in text


def test_names_from_the_data_are_text_and_no_markup(page, tmp_path):
    write_page(page, tmp_path / 'a.html')
    text = (tmp_path / 'a.html').read_text(encoding='utf-8')
    assert '猫' in text
    assert '<b>dog' not in text
    assert '&lt;b&gt;dog' in text


@pytest.mark.parametrize(
    ('cell', 'words'),
    [(0.12345, '0.123'), (1234.5, '1,234'), (12345, '12,345'), (None, '–'), (float('nan'), '–'), ('a', 'a')],
)
def test_cells_are_shown_shortly(cell, words):
    assert shown(cell) == words


def test_csv_holds_numbers_in_full_and_nothing_for_what_is_missing(tmp_path):
    write_csv(('class', 'AP'), [('a,"b"', 0.123456789), ('c', float('nan')), ('d', None)], tmp_path / 'a.csv')
    with (tmp_path / 'a.csv').open(newline='') as file:
        assert list(csv.reader(file)) == [['class', 'AP'], ['a,"b"', '0.123456789'], ['c', ''], ['d', '']]


def test_charts_draw_any_name_and_are_the_same_each_time():
    matrix = np.arange(9).reshape(3, 3)
    lines = {name: Line(np.array([0, 0.5]), np.array([0.1, np.nan])) for name in NAMES}
    for draw in (
        lambda: matrix_chart(matrix, NAMES, 'predicted', 'truth'),
        lambda: bar_chart(NAMES, {'IoU': [0.1, float('nan'), 0.3]}, 'IoU'),
        lambda: line_chart(lines, 'x', 'y', (0.5, 0.5, 'here')),
        lambda: histogram({'train': np.array([1.0, 2, 3])}, np.array([0.5, 1.5, 2.5, 4]), 'px', 'boxes', log=True),
    ):
        assert draw().startswith(b'<?xml')
        assert draw() == draw()
    assert '猫'.encode() in matrix_chart(matrix, NAMES, 'predicted', 'truth')


def test_rows_of_a_matrix_are_the_truth_and_columns_the_prediction():
    text = matrix_chart(np.array([[0, 9], [4, 0]]), ('a', 'b'), 'predicted', 'truth').decode()
    place = {
        number: tuple(float(re.search(rf'<text[^>]* {axis}="([\d.]+)"[^>]*>{number}</text>', text)[1]) for axis in 'xy')
        for number in ('9', '4')
    }
    assert place['9'][0] > place['4'][0]  # the second column is right of the first
    assert place['9'][1] < place['4'][1]  # the first row is above the second


def test_a_matrix_of_many_classes_has_no_names():
    names = [f'class {index}' for index in range(60)]
    assert b'class 7' not in matrix_chart(np.eye(60, dtype=int), names, 'predicted', 'truth')
