"""Files are complete or not there."""

import json

import pytest

from emo_mm.files import atomic_write, write_json


def test_a_file_that_fails_half_way_leaves_the_old_one_and_nothing_else(tmp_path):
    target = tmp_path / 'metrics.json'
    write_json(target, {'ap': 1})

    def fail_half_way() -> None:
        with atomic_write(target) as file:
            file.write(b'{"ap": ')
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert json.loads(target.read_text()) == {'ap': 1}
    assert [path.name for path in tmp_path.iterdir()] == ['metrics.json']


def test_json_goes_through_a_link_to_its_file(tmp_path):
    (tmp_path / 'real.json').write_text('old')
    link = tmp_path / 'link.json'
    link.symlink_to(tmp_path / 'real.json')
    write_json(link, [1, 2])
    assert link.is_symlink()
    assert json.loads((tmp_path / 'real.json').read_text()) == [1, 2]
