"""MMEngine's files are complete or not there."""

import pytest
from full_disk import full_disk
from mmengine import fileio

from emo_mm.engine.resume.atomic import ATOMIC_BACKEND

pytestmark = pytest.mark.toolbox


def test_the_backend_makes_the_folder_and_keeps_the_former_file_where_the_disk_is_full(tmp_path):
    path, backend_args = tmp_path / 'new' / 'a.txt', dict(backend=ATOMIC_BACKEND)
    fileio.put_text('old', path, backend_args=backend_args)
    with full_disk(), pytest.raises(OSError, match='No space left'):
        fileio.put_text('new', path, backend_args=backend_args)
    assert path.read_text() == 'old'
    assert [file.name for file in path.parent.iterdir()] == ['a.txt']
