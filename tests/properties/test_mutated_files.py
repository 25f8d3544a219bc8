"""Damaged files are answered rightly or refused in one clear line: no crash, no hang, no silent wrong answer.

``make torture`` reads 1,000 files of each kind, and prints what became of them.
"""

from __future__ import annotations

import pytest
from fuzzing.cases import KINDS, try_files

MANY = 1000


@pytest.mark.toolbox
@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('count', [pytest.param(25, id='few'), pytest.param(MANY, marks=pytest.mark.slow, id='many')])
def test_damaged_files_are_answered_or_refused(kind, count, tmp_path, capsys):
    if kind in ('jpeg', 'png', 'onnx'):  # read by prediction with an ONNX file
        pytest.importorskip('onnxruntime')
    tally = try_files(kind, range(count), tmp_path / kind)
    with capsys.disabled():
        if count == MANY:
            print(f'\n{tally}')
    assert not tally.faults, '\n\n'.join(
        f'{kind} {number}: {found}\n{said}' for number, found, said in tally.faults[:3]
    )
