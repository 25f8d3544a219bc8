"""Files are complete or not there."""

import errno
import json
import os
from pathlib import Path

import pytest
from full_disk import full_disk

from emo_mm.files import atomic_write, remove_partial_files, write_bytes, write_json


def test_a_file_is_written_and_nothing_else_is_left(tmp_path):
    write_bytes(tmp_path / 'a.pth', b'old')
    write_bytes(tmp_path / 'a.pth', b'new')
    assert (tmp_path / 'a.pth').read_bytes() == b'new'
    assert [path.name for path in tmp_path.iterdir()] == ['a.pth']


def test_a_name_as_long_as_the_file_system_allows_is_written(tmp_path):
    name = 'ä' * 125 + '.json'  # 255 bytes
    write_json(tmp_path / name, [1])
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_full_disk_leaves_the_former_file_and_nothing_of_the_attempt(tmp_path):
    write_bytes(tmp_path / 'a.pth', b'old')
    with full_disk(), pytest.raises(OSError, match='No space left') as caught:
        write_bytes(tmp_path / 'a.pth', b'new')
    assert caught.value.errno == errno.ENOSPC
    assert (tmp_path / 'a.pth').read_bytes() == b'old'
    assert [path.name for path in tmp_path.iterdir()] == ['a.pth']


def test_the_data_are_on_the_disk_before_the_file_has_its_name(tmp_path, monkeypatch):
    events = []
    sync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, 'fsync', lambda handle: events.append('sync') or sync(handle))
    monkeypatch.setattr(Path, 'replace', lambda path, target: events.append('name') or replace(path, target))
    write_bytes(tmp_path / 'a.pth', b'new')
    assert events == ['sync', 'name', 'sync']  # the file, its name, the folder


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path):
    for name in ('.a.pth.partial', 'a.pth', '.hidden', 'b.partial'):
        (tmp_path / name).write_bytes(b'x')
    assert remove_partial_files(tmp_path) == [tmp_path / '.a.pth.partial']
    assert sorted(path.name for path in tmp_path.iterdir()) == ['.hidden', 'a.pth', 'b.partial']


def test_a_file_half_written_is_what_is_removed_after_a_kill(tmp_path):
    with atomic_write(tmp_path / 'a.pth') as file:
        file.write(b'half')
        assert remove_partial_files(tmp_path) == [Path(file.name)]
        Path(file.name).touch()


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


def test_numbers_that_json_has_no_word_for_are_null(tmp_path):
    write_json(tmp_path / 'a.json', {'AP': [0.5, float('nan')], 'loss': (float('inf'), 1), 'name': 'NaN'})
    assert json.loads((tmp_path / 'a.json').read_text()) == {'AP': [0.5, None], 'loss': [None, 1], 'name': 'NaN'}
