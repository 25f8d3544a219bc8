"""``emo-mm predict``: what may be named, what is saved, and what is said of bad files."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from deployed_files import write_onnx
from descriptions import classifier, detector, instance_segmenter, segmenter
from PIL import Image

from emo_mm.errors import UserError
from emo_mm.runtime import images, predictor, sources

pytest.importorskip('onnxruntime')


def save(path: Path, red: int = 200, green: int = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((48, 64, 3), (red, green, 0), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(scope='module')
def models(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp('models')
    described = {'det': detector(), 'ins': instance_segmenter(), 'seg': segmenter(), 'cls': classifier()}
    return {task: write_onnx(folder / f'{task}.onnx', metadata) for task, metadata in described.items()}


def test_a_folder_with_bad_files_gives_the_good_ones_and_exit_code_1(models, run_cli, tmp_path):
    save(tmp_path / 'in' / 'a.png')
    save(tmp_path / 'in' / 'sub' / 'a.png', green=250)
    (tmp_path / 'in' / 'b.jpg').write_bytes(b'')
    (tmp_path / 'in' / 'notes.txt').write_text('no image')
    done = run_cli('predict', tmp_path / 'in', '--model', models['cls'], '--batch', '2')
    assert done.code == 1
    bad = [line for line in done.err.splitlines() if 'error' in line]
    assert bad == [f'error: {tmp_path}/in/b.jpg: is empty']
    assert '2 images predicted, 1 failed' in done.err
    assert done.out.splitlines() == [f'{tmp_path}/in/a.png: cat 0.831', f'{tmp_path}/in/sub/a.png: dog 0.738']


def test_boxes_are_saved_in_the_format_of_coco_results(models, run_cli, tmp_path):
    image = save(tmp_path / 'cat.png')
    annotations = tmp_path / 'annotations.json'
    content = {
        'images': [{'id': 42, 'file_name': 'cat.png'}],
        'categories': [{'id': 18, 'name': 'dog'}, {'id': 17, 'name': 'cat'}],
    }
    annotations.write_text(json.dumps(content))
    arguments = ('predict', image, '--model', models['det'], '--out', tmp_path / 'out', '--save-json')
    assert run_cli(*arguments).code == 0
    (first, *_) = json.loads((tmp_path / 'out' / 'results.json').read_text())
    assert (first['image_id'], first['category_id'], first['category']) == (1, 1, 'cat')
    assert first['bbox'] == [4, 4, 16, 16]
    assert run_cli(*arguments, '--coco-ids', annotations).code == 0
    (first, *_) = json.loads((tmp_path / 'out' / 'results.json').read_text())
    assert (first['image_id'], first['category_id']) == (42, 17)
    annotations.write_text('{}')
    done = run_cli(*arguments, '--coco-ids', annotations)
    assert (done.code, 'is no COCO annotation file' in done.err) == (1, True)


def test_weak_boxes_are_kept_for_an_evaluation_only(models, run_cli, tmp_path):
    image = save(tmp_path / 'cat.png')
    (tmp_path / 'ids.json').write_text(
        json.dumps(
            {
                'images': [{'id': 1, 'file_name': 'cat.png'}],
                'categories': [{'id': 1, 'name': 'cat'}, {'id': 2, 'name': 'dog'}],
            }
        )
    )
    arguments = ('predict', image, '--model', models['det'], '--out', tmp_path / 'out', '--save-json')

    def scores(*flags) -> list[float]:
        assert run_cli(*arguments, *flags).code == 0
        return [entry['score'] for entry in json.loads((tmp_path / 'out' / 'results.json').read_text())]

    shown, kept = scores(), scores('--coco-ids', tmp_path / 'ids.json')
    assert min(shown) > 0.3 >= min(kept)
    assert shown == [score for score in kept if score > 0.3]
    done = run_cli(*arguments, '--score-threshold', '0.99')
    assert '0 boxes score above 0.99; --score-threshold 0.05' in done.err


def test_masks_and_pictures_are_saved(models, run_cli, tmp_path):
    save(tmp_path / 'in' / 'red.png')
    save(tmp_path / 'in' / 'green.png', green=250)
    out = tmp_path / 'out'
    flags = ('--save-json', '--save-masks', '--save-images')
    assert run_cli('predict', tmp_path / 'in' / '*.png', '--model', models['seg'], '--out', out, *flags).code == 0
    for name, label in (('red', 0), ('green', 1)):
        with Image.open(out / 'masks' / f'{name}.png') as mask:
            assert mask.mode == 'L'
            np.testing.assert_array_equal(np.asarray(mask), np.full((48, 64), label))
        with Image.open(out / 'images' / f'{name}.jpg') as picture:
            assert picture.size == (64, 48)
    entries = {Path(x['file_name']).stem: x for x in json.loads((out / 'results.json').read_text())}
    assert entries['green']['pixels'] == {'dog': 48 * 64}
    assert entries['green']['mask'] == 'masks/green.png'


def masks_of_objects() -> list[np.ndarray]:
    """Return the masks of the objects that the graph of kernels finds, best first; the fourth is weak and empty."""
    left, upper, whole = (np.zeros((48, 64), bool) for _ in range(3))
    left[:, :12] = upper[:20] = whole[:] = True
    return [left, upper, whole]


def test_objects_are_saved_as_a_picture_of_their_numbers(models, run_cli, tmp_path):
    image, out = save(tmp_path / 'in' / 'a.png'), tmp_path / 'out'
    done = run_cli('predict', image, '--model', models['ins'], '--out', out, '--save-masks', '--save-images')
    assert done.code == 0, done.err
    assert '3 boxes score above 0.3' in done.err
    left, upper, _ = masks_of_objects()
    with Image.open(out / 'masks' / 'a.png') as picture:
        assert picture.mode == 'P'  # numbers that are seen in colours
        np.testing.assert_array_equal(np.asarray(picture), np.where(left, 1, np.where(upper, 2, 3)))
        assert len(np.unique(np.asarray(picture.convert('RGB')).reshape(-1, 3), axis=0)) == 3
    with Image.open(out / 'images' / 'a.jpg') as picture:
        assert picture.size == (64, 48)


def test_objects_are_saved_as_rle_beside_their_boxes(models, run_cli, tmp_path):
    coco = pytest.importorskip('pycocotools.mask')
    image, out = save(tmp_path / 'a.png'), tmp_path / 'out'
    by_task = {}
    for task in ('det', 'ins'):
        assert run_cli('predict', image, '--model', models[task], '--out', out, '--save-json').code == 0
        by_task[task] = json.loads((out / 'results.json').read_text())
    found = [entry.pop('segmentation') for entry in by_task['ins']]
    assert by_task['ins'] == by_task['det']
    for rle, mask in zip(found, masks_of_objects(), strict=True):
        np.testing.assert_array_equal(coco.decode(rle), mask)


def test_an_object_is_a_line_as_a_box_is(models, run_cli, tmp_path):
    image = save(tmp_path / 'a.png')
    one, other = (run_cli('predict', image, '--model', models[task]).out for task in ('det', 'ins'))
    assert one == other
    assert one.startswith(f'{image}: cat 0.')


def test_saved_objects_are_scored_by_pycocotools(models, run_cli, tmp_path):
    rle = pytest.importorskip('pycocotools.mask')
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    image, out = save(tmp_path / 'a.png'), tmp_path / 'out'
    truth = []
    for index, (mask, category) in enumerate(zip(masks_of_objects(), (17, 18, 18), strict=True), start=1):
        code = rle.encode(np.asfortranarray(mask, np.uint8))
        code['counts'] = code['counts'].decode()
        place = {'id': index, 'image_id': 42, 'category_id': category, 'iscrowd': 0}
        truth.append(place | {'segmentation': code, 'area': int(mask.sum()), 'bbox': rle.toBbox(code).tolist()})
    content = {
        'info': {},
        'images': [{'id': 42, 'file_name': 'a.png', 'width': 64, 'height': 48}],
        'categories': [{'id': 18, 'name': 'dog'}, {'id': 17, 'name': 'cat'}],
        'annotations': truth,
    }
    (tmp_path / 'ids.json').write_text(json.dumps(content))
    flags = ('--out', out, '--save-json', '--coco-ids', tmp_path / 'ids.json')
    assert run_cli('predict', image, '--model', models['ins'], *flags).code == 0
    annotations = COCO(str(tmp_path / 'ids.json'))
    results = annotations.loadRes(str(out / 'results.json'))
    assert all(found['area'] == found['bbox'][2] * found['bbox'][3] for found in results.loadAnns(results.getAnnIds()))
    evaluation = COCOeval(annotations, results, 'segm')
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)


def test_boxes_are_drawn_in_the_colours_of_the_classes(models, run_cli, tmp_path):
    image = save(tmp_path / 'cat.png')
    assert run_cli('predict', image, '--model', models['det'], '--out', tmp_path, '--save-images').code == 0
    with Image.open(tmp_path / 'images' / 'cat.jpg') as picture:
        drawn = np.asarray(picture.convert('RGB')).astype(int)
    # on the right side of the best box, 20, and within the tolerance of JPEG
    assert np.abs(drawn[10:18, 20] - [220, 20, 60]).mean() < 60


def test_probabilities_are_saved(models, run_cli, tmp_path):
    image = save(tmp_path / 'cat.png')
    assert run_cli('predict', image, '--model', models['cls'], '--out', tmp_path, '--save-json').code == 0
    (entry,) = json.loads((tmp_path / 'results.json').read_text())
    assert (entry['class'], entry['label']) == ('cat', 0)
    assert sum(entry['probabilities']) == pytest.approx(1, abs=1e-5)


@pytest.fixture
def video(tmp_path) -> Path:
    cv2 = pytest.importorskip('cv2')
    path = tmp_path / 'video.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 10, (64, 48))
    if not writer.isOpened():
        pytest.skip('this OpenCV writes no videos')
    for index in range(8):
        frame = np.random.default_rng(index).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        writer.write(frame)
    writer.release()
    return path


def test_every_frame_of_a_video_is_predicted(models, run_cli, video):
    done = run_cli('predict', video, '--model', models['cls'], '--batch', '3')
    assert (done.code, len(done.out.splitlines())) == (0, 8)
    assert done.out.startswith(f'{video} frame 1: ')


def test_a_truncated_video_gives_its_frames_and_one_error(models, run_cli, video):
    content = video.read_bytes()
    video.write_bytes(content[: len(content) // 2])
    done = run_cli('predict', video, '--model', models['cls'])
    assert done.code == 1
    errors = [line for line in done.err.splitlines() if line.startswith('error')]
    assert len(errors) == 1
    assert errors[0].startswith(f'error: {video}: is damaged or cut off after frame {len(done.out.splitlines())}')


class Camera:
    """What OpenCV gives for a camera: some frames, then whatever ``end`` does."""

    def __init__(self, source: object, frames: int = 3, end=lambda: (False, None), there: bool = True) -> None:
        assert source == 0
        self.frames, self.end, self.there, self.count = frames, end, there, 0

    def isOpened(self) -> bool:
        return self.there

    def get(self, name: int) -> float:
        return -1.0

    def read(self):
        self.count += 1
        return (True, np.full((48, 64, 3), (0, 100, 200), np.uint8)) if self.count <= self.frames else self.end()

    def release(self) -> None:
        self.there = False


def interrupt():
    raise KeyboardInterrupt


def test_a_camera_is_predicted_until_the_user_stops_it(models, run_cli, tmp_path, monkeypatch):
    cv2 = pytest.importorskip('cv2')
    monkeypatch.setattr(cv2, 'VideoCapture', partial(Camera, frames=20, end=interrupt))
    done = run_cli('predict', '0', '--model', models['cls'], '--out', tmp_path, '--save-json')
    assert done.code == 130
    entries = json.loads((tmp_path / 'results.json').read_text())
    # frames on their way when the user stops may be lost
    assert 1 <= len(entries) <= 20
    assert entries[0]['file_name'] == 'camera 0 frame 1'
    assert entries[0]['class'] == 'cat'  # red is above green: the channels were turned round


def test_a_camera_that_stops_by_itself_is_an_error(models, run_cli, monkeypatch):
    cv2 = pytest.importorskip('cv2')
    monkeypatch.setattr(cv2, 'VideoCapture', Camera)
    done = run_cli('predict', '0', '--model', models['cls'])
    assert (done.code, len(done.out.splitlines())) == (1, 3)
    assert 'error: camera 0: gives no more after frame 3' in done.err


def test_a_camera_that_is_not_there_is_named(models, run_cli, monkeypatch):
    cv2 = pytest.importorskip('cv2')
    monkeypatch.setattr(cv2, 'VideoCapture', partial(Camera, there=False))
    done = run_cli('predict', '0', '--model', models['cls'])
    assert done.code == 1
    assert done.err.splitlines()[-1] == 'error: camera 0: there is none, or another program has it'


def test_the_progress_bar_tells_images_per_second(models, run_cli, tmp_path):
    done = run_cli('predict', save(tmp_path / 'a.png'), '--model', models['cls'])
    assert 'image/s' in done.err


def test_an_image_at_an_address_is_fetched(models, run_cli, tmp_path):
    save(tmp_path / 'cat.png')
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    handler.log_message = lambda *_: None
    with ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f'http://127.0.0.1:{server.server_port}'
        done = run_cli('predict', f'{address}/cat.png', f'{address}/dog.png', '--model', models['cls'])
        server.shutdown()
    assert done.code == 1
    assert done.out.splitlines() == [f'{address}/cat.png: cat 0.831']
    assert f'error: {address}/dog.png: cannot be downloaded' in done.err


@pytest.mark.parametrize(
    ('source', 'said'),
    [
        ('nothing.jpg', 'there is no such file or folder'),
        ('*.jpg', 'no file fits this'),
        ('empty', 'the folder has no images'),
        ('file:///etc/hosts', 'addresses start with http'),
    ],
)
def test_a_source_that_is_not_there_is_told_before_anything_is_loaded(source, said, run_cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'empty').mkdir()
    done = run_cli('predict', source, '--model', 'no-such-model.onnx')
    assert done.code == 1
    assert done.err == f'error: {source}: {said}' + done.err.removeprefix(f'error: {source}: {said}')
    assert len(done.err.splitlines()) == 1


def test_options_that_do_not_fit_the_model_are_refused(models, run_cli, tmp_path):
    image = save(tmp_path / 'cat.png')
    for flags, said in (
        (('--weights', 'x.pth'), '--weights: '),
        (('--save-masks',), f'--save-masks: {models["det"]} is no segmenter'),
        (('--batch', '0'), '--batch is 0'),
        (('--score-threshold', '2'), '--score-threshold is 2.0'),
    ):
        done = run_cli('predict', image, '--model', models['det'], *flags)
        assert (done.code, said in done.err) == (1, True)


def test_a_format_that_is_not_run_is_named(run_cli, tmp_path):
    save(tmp_path / 'cat.png')
    (tmp_path / 'x.engine').write_bytes(b'there')
    done = run_cli('predict', tmp_path / 'cat.png', '--model', tmp_path / 'x.engine')
    assert done.code == 1
    assert 'of files, .onnx, .xml' in done.err
    assert '--format onnx' in done.err


WITH_A_STACK = [
    'train ssdlite_emo_1m_demo',
    'test ssdlite_emo_1m_demo x.pth',
    'flops emo_1m',
    'benchmark',
    'export emo_1m_demo',
    'weights convert x',
]


@pytest.mark.parametrize('command', WITH_A_STACK)
def test_without_a_stack_a_command_says_in_one_line_what_to_install(command, tmp_path):
    code = (
        'import sys\n'
        "stack = ('torch', 'torchvision', 'mmengine', 'mmcv', 'mmdet', 'mmseg', 'mmpretrain')\n"
        'sys.modules.update(dict.fromkeys(stack))\n'
        f'from emo_mm.cli import main; sys.exit(main({command.split()!r}))'
    )
    done = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count('\n') == 1, done.stderr
    assert "pip install 'emo-mm[onedl]'" in done.stderr


def test_a_folder_gives_images_of_every_kind_and_videos_and_one_line_on_the_rest(models, run_cli, video, caplog):
    folder = video.parent
    save(folder / 'a.jpg')
    (folder / 'b.jfif').write_bytes((folder / 'a.jpg').read_bytes())
    for name in ('._a.jpg', '.hidden/c.jpg', '__MACOSX/d.jpg', 'Thumbs.db', 'notes.txt', 'data.csv', 'more.csv'):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b'no image')
    (folder / 'program.ts').write_text('export const x = 1;\n')
    done = run_cli('predict', folder, '--model', models['cls'])
    assert done.code == 0, done.err
    assert len(done.out.splitlines()) == 2 + 8
    assert f'{folder}: left out: 2 .csv, 1 .ts, 1 .txt' in caplog.text
    assert len(caplog.records) == 1


def test_what_cannot_be_decoded_here_is_named_with_what_would_help(models, run_cli, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(sources, 'readable_formats', lambda: images.FORMATS)
    monkeypatch.setattr(sources, 'find_spec', lambda name: None)
    save(tmp_path / 'a.png')
    for name in ('b.heic', 'c.avif', 'd.mp4'):
        (tmp_path / name).write_bytes(b'\0there')
    assert run_cli('predict', tmp_path, '--model', models['cls']).code == 0
    said = (
        '1 .avif (pip install pillow-avif-plugin), 1 .heic (pip install pillow-heif), 1 .mp4 (pip install opencv-python'
    )
    assert said in caplog.text
    (tmp_path / 'a.png').unlink()
    done = run_cli('predict', tmp_path, '--model', models['cls'])
    assert (done.code, len(done.err.splitlines())) == (1, 1)
    assert '1 .heic (pip install pillow-heif)' in done.err


def test_jpeg_2000_and_avif_are_read_where_pillow_reads_them(tmp_path):
    image = Image.new('RGB', (16, 16), (200, 100, 0))
    for name, kind in (('a.jp2', 'JPEG2000'), ('a.avif', 'AVIF')):
        if kind in images.readable_formats():
            image.save(tmp_path / name)
            assert images.read_image(tmp_path / name).shape == (16, 16, 3)


def test_what_an_earlier_run_saved_is_not_predicted_again(models, run_cli, tmp_path, caplog):
    save(tmp_path / 'a.png')
    arguments = ('predict', tmp_path, '--model', models['cls'], '--out', tmp_path / 'out', '--save-images')
    for _ in range(2):
        assert '1 image predicted, 0 failed' in run_cli(*arguments).err
    assert f'left out: 1 that was saved in {tmp_path}/out' in caplog.text


def test_pages_and_frames_beyond_the_first_are_told(models, run_cli, tmp_path, caplog):
    first, second = (Image.new('RGB', (16, 16), colour) for colour in ('red', 'green'))
    for name in ('a.tif', 'b.gif', 'c.webp'):
        first.save(tmp_path / name, save_all=True, append_images=[second])
    first.save(tmp_path / 'd.tif')
    done = run_cli('predict', tmp_path, '--model', models['cls'])
    assert (done.code, len(done.out.splitlines())) == (0, 4)
    several = 'has several pages or frames; the first is used'
    assert sorted(r.getMessage() for r in caplog.records) == [
        f'{tmp_path}/{n}: {several}' for n in ('a.tif', 'b.gif', 'c.webp')
    ]
    np.testing.assert_array_equal(images.read_image(tmp_path / 'a.tif')[0, 0], [255, 0, 0])


def test_an_error_that_does_not_name_its_image_is_told_with_its_name(models, run_cli, tmp_path, monkeypatch):
    def prepare(pixels, settings):
        raise UserError('resizing leaves no pixel')

    monkeypatch.setattr(predictor, 'prepare', prepare)
    done = run_cli('predict', save(tmp_path / 'thin.png'), '--model', models['cls'])
    assert f'error: {tmp_path}/thin.png: resizing leaves no pixel' in done.err
