from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from emo_mm.weights.listing import format_weights_table
from emo_mm.weights.registry import PUBLISHED

SPEC = Path(__file__).parents[3] / 'shared' / 'spec' / 'published_weights.json'


@pytest.mark.skipif(not SPEC.is_file(), reason='the list of published files is not beside the repository')
def test_rows_equal_the_published_list():
    listed = {row['name']: row for row in json.loads(SPEC.read_text())}
    assert PUBLISHED.keys() == listed.keys()
    for name, row in PUBLISHED.items():
        theirs = listed[name]
        assert (row.repository, row.commit, row.path) == (theirs['repository'], theirs['commit'], theirs['path'])
        assert row.git_blob_sha1 == theirs['git_blob_sha1']
        assert (row.top1, row.input_size, row.window_size) == (theirs['top1'], theirs['input'], theirs['window_size'])


def test_address_is_the_raw_content_at_the_commit():
    assert PUBLISHED['emo_2m'].url == (
        'https://raw.githubusercontent.com/zhangzjn/EMO/27d9b40fea9c2a12a2fe7acc51032184852a99d8/'
        'resources/EMO_2M/net.pth'
    )


def test_table_names_every_row_and_what_is_in_the_cache(cache):
    cache.mkdir(parents=True)
    (cache / PUBLISHED['emo_5m'].filename).write_bytes(b'x')
    lines = {line.split()[0]: line.split() for line in format_weights_table().splitlines() if line}
    for name, row in PUBLISHED.items():
        assert lines[name][1:5] == [
            f'{row.backbone}-{row.arch.upper()}',
            str(row.input_size),
            str(row.window_size),
            f'{row.top1:.3f}',
        ]
        assert lines[name][5] == ('yes' if name == 'emo_5m' else 'no')
        assert lines[name][6] == row.url


def test_listing_imports_no_torch():
    code = (
        'import sys\n'
        'from emo_mm.weights import format_weights_table\n'
        'format_weights_table()\n'
        "print('torch' in sys.modules)"
    )
    repo = Path(__file__).parents[2]
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, cwd=repo)
    assert out.stdout.strip() == 'False'


def test_public_names_are_functions_even_after_their_modules_were_imported():
    import emo_mm.weights
    import emo_mm.weights.conversion

    for name in set(emo_mm.weights.__all__) - {'PUBLISHED'}:
        assert callable(getattr(emo_mm.weights, name)), name
    with pytest.raises(AttributeError, match='no attribute'):
        emo_mm.weights.nothing  # noqa: B018
