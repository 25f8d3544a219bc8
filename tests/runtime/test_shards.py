"""``emo-mm predict --save-parquet`` and ``emo-mm merge``: many images in parts, each once, whatever was killed."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deployed_files import write_onnx
from descriptions import classifier, detector, instance_segmenter, segmenter
from PIL import Image

from emo_mm.errors import UserError
from emo_mm.predict.manifest import read_manifest
from emo_mm.predict.options import PredictOptions

pytest.importorskip('onnxruntime')
parquet = pytest.importorskip('pyarrow.parquet')

TASKS = {'det': detector, 'ins': instance_segmenter, 'seg': segmenter, 'cls': classifier}


def save(path: Path, green: int = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((48, 64, 3), (200, green, 0), np.uint8)).save(path)
    return path


@pytest.fixture(scope='module')
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp('models')
    return {task: write_onnx(folder / f'{task}.onnx', describe()) for task, describe in TASKS.items()}


@pytest.fixture(scope='module')
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven images, the fourth of which cannot be read."""
    folder = tmp_path_factory.mktemp('photographs')
    for number in range(7):
        save(folder / f'{number}.png', green=60 + 30 * number)
    (folder / '3.png').write_bytes(b'no image')
    return folder


def rows(out: Path) -> list[dict[str, Any]]:
    return [row for path in sorted((out / 'shards').glob('*.parquet')) for row in parquet.read_table(path).to_pylist()]


def shards(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / 'shards').iterdir()}


@pytest.mark.parametrize('task', TASKS)
def test_the_merged_parts_are_what_one_prediction_saves(task, models, photographs, run_cli, tmp_path):
    plain, parts = tmp_path / 'plain', tmp_path / 'parts'
    sources = [photographs / f'{number}.png' for number in (0, 1, 2, 4)]
    assert run_cli('predict', *sources, '--model', models[task], '--out', plain, '--save-json').code == 0
    flags = ('--save-parquet', '--shard-size', '3')
    assert run_cli('predict', *sources, '--model', models[task], '--out', parts, *flags).code == 0
    assert run_cli('merge', parts).code == 0
    assert (parts / 'results.json').read_text() == (plain / 'results.json').read_text()
    assert (parts / 'errors.txt').read_text() == ''


def test_the_columns_of_a_kind_of_result_are_those_that_the_docs_list(models, photographs, run_cli, tmp_path):
    columns = {}
    for task, model in models.items():
        out = tmp_path / task
        assert run_cli('predict', photographs / '0.png', '--model', model, '--out', out, '--save-parquet').code == 0
        (row,) = rows(out)
        assert (row['path'], row['image_id'], row['error']) == (str(photographs / '0.png'), 0, None)
        columns[task] = tuple(row)[3:]
    assert columns == {
        'det': ('boxes', 'scores', 'labels'),
        'ins': ('boxes', 'scores', 'labels', 'masks'),
        'seg': ('mask',),
        'cls': ('probabilities',),
    }


def test_a_bad_image_is_a_row_with_an_error_and_shifts_no_other(models, photographs, run_cli, tmp_path):
    out = tmp_path / 'out'
    flags = ('--save-parquet', '--shard-size', '2')
    assert run_cli('predict', photographs, '--model', models['cls'], '--out', out, *flags).code == 1
    found = rows(out)
    assert [row['image_id'] for row in found] == list(range(7))
    assert [row['path'] for row in found] == [str(photographs / f'{number}.png') for number in range(7)]
    assert [row['image_id'] for row in found if row['error']] == [3]
    assert found[3]['probabilities'] is None
    done = run_cli('merge', out)
    assert (done.code, '6 images in' in done.err) == (1, True)
    (line,) = (out / 'errors.txt').read_text().splitlines()
    assert line.startswith(f'{photographs}/3.png: ')
    assert len(json.loads((out / 'results.json').read_text())) == 6


def test_processes_share_the_parts_and_their_files_do_not_depend_on_it(models, photographs, run_cli, tmp_path):
    arguments = ('predict', photographs, '--model', models['det'], '--save-parquet', '--shard-size', '2')
    assert run_cli(*arguments, '--out', tmp_path / 'one').code == 1
    two = (*arguments, '--out', tmp_path / 'two')
    assert run_cli(*two, '--shards', '2/2').code == 1  # which has the image that cannot be read
    missing = run_cli('merge', tmp_path / 'two')
    assert (missing.code, '2 of 4 parts are missing: 0, 2;' in missing.err) == (1, True)
    assert run_cli(*two, '--shards', '1/2', '--batch', '3').code == 0
    assert shards(tmp_path / 'one') == shards(tmp_path / 'two')


def test_a_finished_part_is_not_made_again_and_must_be_asked_to_go_on_with(models, photographs, run_cli, tmp_path):
    out = tmp_path / 'out'
    arguments = ('predict', photographs, '--model', models['cls'], '--save-parquet', '--shard-size', '2', '--out', out)
    run_cli(*arguments)
    complete = shards(out)
    again = run_cli(*arguments)
    assert (again.code, '4 of 4 parts are there already; --resume continues' in again.err) == (1, True)
    (out / 'shards' / 'part-000002.parquet').unlink()
    times = {path: path.stat().st_mtime_ns for path in (out / 'shards').iterdir()}
    resumed = run_cli(*arguments, '--resume')
    assert (resumed.code, '1 of 4 parts written' in resumed.err) == (1, True)  # an earlier part has the bad image
    assert shards(out) == complete
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_images_that_failed_before_are_told_again_and_how_they_are_tried_again(models, photographs, run_cli, tmp_path):
    folder, out = tmp_path / 'in', tmp_path / 'out'
    shutil.copytree(photographs, folder)
    arguments = ('predict', folder, '--model', models['cls'], '--save-parquet', '--out', out, '--resume')
    assert run_cli(*arguments, '--shard-size', '2').code == 1
    again = run_cli(*arguments)  # the size of the parts is that of the job
    assert again.code == 1
    assert '1 image failed before, in part-000001.parquet; remove these files to try them again' in again.err
    assert 'all 4 parts of it are there; nothing was predicted' in again.err
    shutil.copy(folder / '0.png', folder / '3.png')
    (out / 'shards' / 'part-000001.parquet').unlink()
    assert run_cli(*arguments).code == 0
    assert not [row for row in rows(out) if row['error']]
    empty = run_cli(*arguments, '--shards', '9/9')
    assert (empty.code, 'of 4 parts it has none; nothing was predicted' in empty.err) == (0, True)


def test_numbers_of_an_annotation_file_need_weak_boxes_and_images_that_it_lacks_are_errors(
    models, photographs, run_cli, tmp_path
):
    sources, out = [photographs / f'{number}.png' for number in (0, 1)], tmp_path / 'out'
    content = {
        'images': [{'id': 42, 'file_name': '1.png'}],
        'categories': [{'id': 7, 'name': 'cat'}, {'id': 8, 'name': 'dog'}],
    }
    (tmp_path / 'truth.json').write_text(json.dumps(content))
    arguments = ('predict', *sources, '--model', models['det'], '--save-parquet')
    run_cli(*arguments, '--out', out)
    done = run_cli('merge', out, '--coco-ids', tmp_path / 'truth.json')
    assert (done.code, 'warning: the parts lack boxes that score 0.3 or less' in done.err) == (1, True)
    assert {entry['image_id'] for entry in json.loads((out / 'results.json').read_text())} == {42}
    assert '0.png: is not listed' in (out / 'errors.txt').read_text()
    run_cli(*arguments, '--out', tmp_path / 'weak', '--score-threshold', '0.02')
    assert 'warning' not in run_cli('merge', tmp_path / 'weak', '--coco-ids', tmp_path / 'truth.json').err


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (('--shard-size', '3'), 'shard size 256 for 3'),
        (('--score-threshold', '0.7'), 'score threshold 0.3 for 0.7'),
        (('--model', 'cls'), 'another model, another kind of results, score threshold 0.3 for None'),
    ],
)
def test_another_job_in_the_same_folder_is_refused(change, words, models, photographs, run_cli, tmp_path):
    out = tmp_path / 'out'
    arguments = ['predict', photographs, '--model', models['det'], '--save-parquet', '--out', out]
    run_cli(*arguments)
    before = shards(out)
    done = run_cli(*arguments, '--resume', *(models.get(word, word) for word in change))
    assert (done.code, f'is of another job, with {words}' in done.err) == (1, True), done.err
    assert shards(out) == before


def test_other_images_are_another_job_and_a_foreign_part_is_refused(models, photographs, run_cli, tmp_path):
    one, two = tmp_path / 'one', tmp_path / 'two'
    arguments = ['predict', '--model', models['cls'], '--save-parquet', '--out']
    assert run_cli(*arguments, one, photographs / '0.png').code == 0
    done = run_cli(*arguments, one, photographs / '1.png')
    assert 'with another list of images' in done.err
    assert run_cli(*arguments, two, photographs / '1.png').code == 0
    shutil.copy(two / 'shards' / 'part-000000.parquet', one / 'shards')
    done = run_cli('merge', one)
    assert (done.code, 'part-000000.parquet: is of another job' in done.err) == (1, True)
    (one / 'shards' / 'part-000000.parquet').write_bytes(b'half')
    done = run_cli('merge', one)
    assert (done.code, 'part-000000.parquet: cannot be read' in done.err) == (1, True)


@pytest.mark.slow
def test_a_killed_prediction_loses_only_the_parts_under_way(models, tmp_path):
    folder, out = tmp_path / 'in', tmp_path / 'out'
    for number in range(400):
        save(folder / f'{number:03d}.png', green=number % 256)
    command = [sys.executable, '-m', 'emo_mm.cli', 'predict', str(folder), '--model', str(models['det'])]
    command += ['--save-parquet', '--shard-size', '5', '--resume', '--out']
    whole = tmp_path / 'whole'
    subprocess.run([*command, str(whole)], check=True, capture_output=True)
    for _ in range(3):
        process = subprocess.Popen([*command, str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        before = len(list(out.glob('shards/*.parquet')))
        while process.poll() is None and len(list(out.glob('shards/*.parquet'))) < before + 5:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run([*command, str(out)], check=True, capture_output=True)
    ours = {path.name: path.read_bytes() for path in (out / 'shards').glob('*.parquet')}
    assert ours == {path.name: path.read_bytes() for path in (whole / 'shards').glob('*.parquet')}


# --- manifests
def names(*specs: Path | str) -> list[str]:
    return [entry.name for entry in read_manifest([str(spec) for spec in specs]).entries()]


def test_lists_name_images_beside_them_and_keep_their_order(photographs, tmp_path):
    listed = tmp_path / 'list.txt'
    save(tmp_path / 'b.png')
    listed.write_text(f'# of today\n{photographs}/5.png\r\n\nb.png\n{photographs}/0.png\n')
    assert names(listed) == [f'{photographs}/5.png', str(tmp_path / 'b.png'), f'{photographs}/0.png']


def test_a_column_of_a_parquet_file_is_a_list(photographs, tmp_path):
    import pyarrow

    table = tmp_path / 'images.parquet'
    parquet.write_table(pyarrow.table({'path': ['a.png'], 'other': [f'{photographs}/1.png']}), table)
    assert names(table) == [str(tmp_path / 'a.png')]
    assert names(f'{table}#other') == [f'{photographs}/1.png']
    with pytest.raises(UserError, match=r"has no column 'third' but path, other; name one: .*#COLUMN"):
        names(f'{table}#third')
    parquet.write_table(pyarrow.table({'path': [3]}), table)
    with pytest.raises(UserError, match=r"its column 'path' holds no paths but int64"):
        names(table)


def test_images_in_tar_files_are_read_where_they_are(photographs, tmp_path):
    path = tmp_path / 'shard.tar'
    with tarfile.open(path, 'w') as file:
        for name in ('1.png', '2.png'):
            file.add(photographs / name, name)
        file.add(__file__, 'label.cls')
    entries = list(read_manifest([str(path)]).entries())
    assert [entry.name for entry in entries] == [f'{path}#1.png', f'{path}#2.png']
    assert (entries[1].read() == (200, 120, 0)).all()


def test_images_of_a_store_are_listed_and_read(photographs):
    fsspec = pytest.importorskip('fsspec')
    store = fsspec.filesystem('memory')
    store.pipe('/bucket/photos/b.png', (photographs / '2.png').read_bytes())
    store.pipe('/bucket/photos/a.png', b'no image')
    store.pipe('/bucket/photos/notes.txt', b'no image')
    first, second = read_manifest(['memory://bucket/photos']).entries()
    assert (first.name, second.name) == ('memory:///bucket/photos/a.png', 'memory:///bucket/photos/b.png')
    assert (second.read() == (200, 120, 0)).all()
    with pytest.raises(UserError, match=r'a\.png: '):
        first.read()
    with pytest.raises(UserError, match='holds no image'):
        names('memory://bucket/nothing')
    with pytest.raises(UserError, match='cannot be opened'):
        names('nostore://bucket')


def test_the_hash_of_a_manifest_tells_other_names_and_another_order(photographs, tmp_path):
    one, two = (str(photographs / name) for name in ('0.png', '1.png'))
    hashes = [read_manifest(specs).sha256 for specs in ([one, two], [two, one], [one])]
    assert len(set(hashes)) == 3
    assert read_manifest([one, two]).sha256 == hashes[0]


@pytest.mark.parametrize('content', ['', '\n\n'])
def test_an_empty_list_is_refused(content, tmp_path):
    (tmp_path / 'list.txt').write_text(content)
    with pytest.raises(UserError, match='no image is listed'):
        names(tmp_path / 'list.txt')


@pytest.mark.parametrize('name', ['list.csv', 'images.tar.gz', 'images.zip'])
def test_lists_of_another_kind_are_refused(name, tmp_path):
    (tmp_path / name).write_bytes(b'x')
    with pytest.raises(UserError, match=r'images are listed by \.txt, \.lst, \.parquet, \.tar'):
        names(tmp_path / name)


def test_a_list_in_another_encoding_is_refused(tmp_path):
    (tmp_path / 'list.txt').write_bytes('größe.png\n'.encode('latin-1'))
    with pytest.raises(UserError, match=r'list\.txt: is no text in UTF-8'):
        names(tmp_path / 'list.txt')


def test_a_list_without_parts_is_told_the_flag(models, run_cli, tmp_path):
    (tmp_path / 'list.txt').write_text('a.png\n')
    done = run_cli('predict', tmp_path / 'list.txt', '--model', models['cls'])
    assert (done.code, 'are read with --save-parquet; give it too' in done.err) == (1, True)


def test_videos_have_no_place_in_a_list(tmp_path):
    (tmp_path / 'list.txt').write_text('a.mp4\n')
    with pytest.raises(UserError, match=r'a\.mp4: is a video'):
        names(tmp_path / 'list.txt')


# --- options
@pytest.mark.parametrize(
    ('given', 'words'),
    [
        ({'shards': '0/2'}, 'it must be I/N'),
        ({'shards': '3/2'}, 'it must be I/N'),
        ({'shards': 'all'}, 'it must be I/N'),
        ({'shard_size': 0}, 'at least 1'),
        ({'save_parquet': False, 'resume': True}, 'belong to --save-parquet'),
        ({'save_json': True}, 'leave out --save-json'),
        ({'coco_ids': 'x.json'}, 'which emo-mm merge takes'),
    ],
)
def test_options_that_make_no_sense_are_refused(given, words):
    with pytest.raises(UserError, match=words):
        PredictOptions(**{'sources': ['a'], 'model': 'm', 'save_parquet': True, **given})


def test_without_pyarrow_the_way_to_it_is_told(models, photographs, run_cli, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'pyarrow', None)
    done = run_cli('predict', photographs, '--model', models['cls'], '--save-parquet', '--out', tmp_path / 'out')
    assert (done.code, "pip install 'emo-mm[parquet]'" in done.err) == (1, True)
    assert not (tmp_path / 'out').exists()
