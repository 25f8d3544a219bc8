"""The tool that measures all formats."""

from __future__ import annotations

import runpy

import pytest

from emo_mm.errors import UserError

pytestmark = pytest.mark.toolbox


def test_the_table_takes_its_place_in_the_document(tmp_path, repo_root):
    tool = runpy.run_path(str(repo_root / 'tools' / 'documents' / 'export_matrix.py'))
    begin, end = tool['BEGIN'], tool['END']
    page = tmp_path / 'page.md'
    page.write_text(f'before\n{begin}\nold\n{end}\nafter\n')
    tool['write_into'](page, 'new \\1')
    assert page.read_text() == f'before\n{begin}\n\nnew \\1\n\n{end}\nafter\n'
    page.write_text('nothing')
    with pytest.raises(UserError, match='lacks the lines'):
        tool['write_into'](page, 'new')
