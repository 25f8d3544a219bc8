"""Files are whole or not there."""

import errno
import os
from pathlib import Path

import pytest

from emo_mm.engine.resume.atomic import remove_partial_files, write_atomically

pytestmark = pytest.mark.toolbox


def test_a_file_is_written_and_nothing_else_is_left(tmp_path):
    write_atomically(tmp_path / 'a.pth', b'old')
    write_atomically(tmp_path / 'a.pth', b'new')
    assert (tmp_path / 'a.pth').read_bytes() == b'new'
    assert [path.name for path in tmp_path.iterdir()] == ['a.pth']


def test_a_full_disk_leaves_the_former_file_and_nothing_of_the_attempt(tmp_path):
    write_atomically(tmp_path / 'a.pth', b'old')
    (tmp_path / '.a.pth.partial').symlink_to('/dev/full')  # whose every write fails as on a full disk
    with pytest.raises(OSError, match='No space left') as caught:
        write_atomically(tmp_path / 'a.pth', b'new')
    assert caught.value.errno == errno.ENOSPC
    assert (tmp_path / 'a.pth').read_bytes() == b'old'
    assert [path.name for path in tmp_path.iterdir()] == ['a.pth']


def test_the_data_are_on_the_disk_before_the_file_has_its_name(tmp_path, monkeypatch):
    events = []
    sync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, 'fsync', lambda handle: events.append('sync') or sync(handle))
    monkeypatch.setattr(Path, 'replace', lambda path, target: events.append('name') or replace(path, target))
    write_atomically(tmp_path / 'a.pth', b'new')
    assert events == ['sync', 'name', 'sync']  # the file, its name, the folder


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path):
    for name in ('.a.pth.partial', 'a.pth', '.hidden', 'b.partial'):
        (tmp_path / name).write_bytes(b'x')
    assert remove_partial_files(tmp_path) == [tmp_path / '.a.pth.partial']
    assert sorted(path.name for path in tmp_path.iterdir()) == ['.hidden', 'a.pth', 'b.partial']
