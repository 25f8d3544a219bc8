"""A deployed file in its runtime: the same answers for any batch, and clear words for a bad file."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from deployed_files import BOXES, LOGITS, write_onnx
from descriptions import classifier, detector, instance_segmenter, segmenter

from emo_mm.errors import UserError
from emo_mm.runtime import Predictor
from emo_mm.runtime.metadata import InputSpec, MaskSpec, OutputSpec, Preprocessing
from emo_mm.runtime.seal import seal
from emo_mm.runtime.sessions import open_session
from emo_mm.runtime.sessions.openvino import PRECISION_KEY

pytest.importorskip('onnxruntime')

# red and green of a picture decide; values stay as they are
AS_IS = Preprocessing('none', (0, 0), 'cv2', 'bilinear', None, 1, None, 0.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
ANY_SIZE = InputSpec('images', 'float32', 'NCHW', None, None, None, normalized_inside=False)


def flat(red: int, green: int, height: int = 48, width: int = 64) -> np.ndarray:
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0], image[..., 1] = red, green
    return image


@pytest.fixture
def mean_grey() -> np.ndarray:
    """An image whose normalised mean is about 0, of twice the width and height of the network's input."""
    image = np.zeros((96, 128, 3), np.uint8)
    image[:] = (124, 116, 104)
    return image


def test_boxes_are_selected_and_scaled_to_the_photograph(tmp_path, mean_grey):
    found = Predictor(write_onnx(tmp_path / 'det.onnx', detector()))(mean_grey)
    # Anchors 0, 3, 2 and 6 are above 0.02; anchor 1 overlaps 0; 2 and 3 hardly overlap. The photograph is 128x96.
    np.testing.assert_array_equal(found.labels, [0, 1, 1, 0])
    expected = BOXES[[0, 3, 2, 6]].clip(0, [64, 48, 64, 48]) * 2
    np.testing.assert_allclose(found.boxes, expected)
    logits = np.array([LOGITS[0, 0], LOGITS[3, 1], LOGITS[2, 1], LOGITS[6, 0]])
    np.testing.assert_allclose(found.scores, 1 / (1 + np.exp(-logits)), atol=2e-3)


def test_kernels_make_masks_of_the_boxes_that_are_kept(tmp_path, mean_grey):
    predict = Predictor(write_onnx(tmp_path / 'ins.onnx', instance_segmenter()))
    found = predict(mean_grey)
    expected = Predictor(write_onnx(tmp_path / 'det.onnx', detector()))(mean_grey)
    for name in ('boxes', 'scores', 'labels'):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    masks = np.zeros((4, 96, 128), bool)  # of anchors 0, 3, 2 and 6, at twice the size of the input
    masks[0, :, :24] = True
    masks[1, :40] = True
    masks[2] = True
    np.testing.assert_array_equal(np.asarray(found.masks), masks)
    predict.keep_above(0.99)
    assert np.asarray(predict(mean_grey).masks).shape == (0, 96, 128)


def test_masks_over_the_input_come_in_the_size_of_the_photograph(tmp_path, mean_grey):
    for found in Predictor(write_onnx(tmp_path / 'ins.onnx', instance_segmenter('masks')), 2)([mean_grey] * 3):
        np.testing.assert_array_equal(found.labels, [1, 0])  # the better one first
        np.testing.assert_allclose(found.boxes, [[60, 20, 80, 80], [8, 8, 40, 40]])
        masks = np.zeros((2, 96, 128), bool)
        masks[0, :48] = True
        masks[1, :, :64] = True
        np.testing.assert_array_equal(np.asarray(found.masks), masks)


def test_masks_over_boxes_lie_in_them(tmp_path, mean_grey):
    found = Predictor(write_onnx(tmp_path / 'ins.onnx', instance_segmenter('roi_masks')))(mean_grey)
    masks = np.zeros((2, 96, 128), bool)
    masks[0, 20:50, 60:80] = True
    masks[1, 8:40, 8:24] = True
    assert not (np.asarray(found.masks) & ~masks).any()
    assert (found.masks.areas / masks.sum((1, 2)) > 0.9).all()  # corners are round, as beyond a box there is nothing


def test_a_higher_threshold_of_masks_leaves_fewer_pixels(tmp_path, mean_grey):
    strict = instance_segmenter('masks', masks=MaskSpec(0.9, None))
    one, other = (
        Predictor(write_onnx(tmp_path / f'{index}.onnx', metadata))(mean_grey).masks.areas
        for index, metadata in enumerate((instance_segmenter('masks'), strict))
    )
    assert (other < one).all()


def test_a_higher_threshold_leaves_fewer_boxes(tmp_path, mean_grey):
    path = write_onnx(tmp_path / 'det.onnx', detector())
    assert len(Predictor(path, score_threshold=0.6)(mean_grey).labels) == 2


def test_label_maps_come_in_the_size_of_the_photograph(tmp_path):
    image = flat(200, 100, 40, 60)
    image[:, 30:, 1] = 250
    expected = (image[..., 1] > image[..., 0]).astype(np.uint8)
    for kind in ('logits', 'labels'):
        path = write_onnx(tmp_path / f'{kind}.onnx', segmenter(kind, preprocessing=AS_IS, input=ANY_SIZE))
        np.testing.assert_array_equal(Predictor(path)(image).labels, expected)


def test_batches_do_not_change_the_answers_nor_their_order(tmp_path):
    metadata = classifier(preprocessing=AS_IS, input=ANY_SIZE)
    path = write_onnx(tmp_path / 'cls.onnx', metadata)
    # of two sizes, which cannot share a batch
    images = [flat(i % 7, i % 5, 10 + 10 * (i % 2), 20) for i in range(13)]
    expected = [np.exp(i % 7) / (np.exp(i % 7) + np.exp(i % 5)) for i in range(13)]
    for batch in (1, 4, 16):
        found = Predictor(path, batch_size=batch)(images)
        np.testing.assert_allclose([x.probabilities[0] for x in found], expected, rtol=1e-5)


def test_a_fixed_batch_is_filled_up(tmp_path):
    metadata = classifier(input=InputSpec('images', 'float32', 'NCHW', 4, 48, 64, normalized_inside=False))
    predictor = Predictor(write_onnx(tmp_path / 'cls.onnx', metadata), batch_size=16)
    assert predictor.batch_size == 4
    assert len(predictor([flat(9, 9)] * 6)) == 6


def test_a_stream_goes_on_after_a_bad_image_and_keeps_the_order(tmp_path):
    path = write_onnx(tmp_path / 'cls.onnx', classifier())
    bad = tmp_path / 'bad.jpg'
    bad.write_bytes(b'')
    outcomes = list(Predictor(path, batch_size=2).stream([flat(1, 2), bad, flat(3, 4)], keep_pixels=True))
    assert [outcome.error for outcome in outcomes] == [None, f'{bad}: is empty', None]
    assert outcomes[1].result is None
    np.testing.assert_array_equal(outcomes[2].pixels, flat(3, 4))
    with pytest.raises(UserError, match=r'bad\.jpg: is empty'):
        Predictor(path)([bad])


def test_items_are_drawn_a_few_ahead_and_not_all(tmp_path):
    predictor = Predictor(write_onnx(tmp_path / 'cls.onnx', classifier()), batch_size=2, threads=1)
    drawn = []

    def endless():
        while True:
            drawn.append(1)
            yield flat(1, 2)

    stream = predictor.stream(endless())
    for _ in range(5):
        next(stream)
    stream.close()
    assert len(drawn) < 20


@pytest.mark.parametrize('kind', ['det', 'ins', 'seg', 'cls'])
def test_openvino_answers_like_onnx_runtime_and_keeps_the_description(kind, tmp_path):
    openvino = pytest.importorskip('openvino')
    kinds = {'det': detector(), 'ins': instance_segmenter(), 'seg': segmenter('labels'), 'cls': classifier()}
    metadata = kinds[kind]
    path = write_onnx(tmp_path / 'model.onnx', metadata)
    openvino.save_model(openvino.convert_model(path), tmp_path / 'model.xml')
    seal(tmp_path / 'model.xml')
    one, other = Predictor(path), Predictor(tmp_path / 'model.xml')
    assert other.metadata == metadata
    image = np.random.default_rng(0).integers(0, 256, (100, 120, 3), dtype=np.uint8)
    given = {name: value for name, value in vars(one(image)).items() if value is not None}  # boxes have no masks
    for name, value in given.items():
        np.testing.assert_allclose(getattr(other(image), name), value, atol=1e-5)


def test_signals_reach_python_after_openvino_files_were_closed_in_the_order_of_their_opening(tmp_path):
    openvino = pytest.importorskip('openvino')
    model = openvino.convert_model(write_onnx(tmp_path / 'model.onnx', classifier()))
    openvino.save_model(model, tmp_path / 'model.xml')
    seal(tmp_path / 'model.xml')
    script = f"""
import signal
from emo_mm.runtime.sessions import open_session

signal.signal(signal.SIGUSR1, lambda number, frame: print('handled'))
first, second = (open_session({str(tmp_path / 'model.xml')!r}) for _ in range(2))
del first
del second
signal.raise_signal(signal.SIGUSR1)
"""
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, 'handled\n'), done.stderr


def test_openvino_computes_in_full_precision_unless_the_file_is_in_less(tmp_path):
    openvino = pytest.importorskip('openvino')
    model = openvino.convert_model(write_onnx(tmp_path / 'model.onnx', classifier()))
    openvino.save_model(model, tmp_path / 'full.xml')
    seal(tmp_path / 'full.xml')
    own_choice = openvino.compile_model(model, 'CPU').get_property('INFERENCE_PRECISION_HINT')
    model.set_rt_info('half', PRECISION_KEY)
    openvino.save_model(model, tmp_path / 'half.xml')
    seal(tmp_path / 'half.xml')
    for name, expected in (('full', openvino.Type.f32), ('half', own_choice)):
        session = open_session(tmp_path / f'{name}.xml')
        assert session._compiled.get_property('INFERENCE_PRECISION_HINT') == expected


def test_a_description_may_lie_beside_the_file(tmp_path):
    path = write_onnx(tmp_path / 'cls.onnx', classifier(), describe=False)
    with pytest.raises(UserError, match=r'cls\.onnx: does not describe itself and has no cls\.onnx\.json'):
        Predictor(path)
    (tmp_path / 'cls.onnx.json').write_text(classifier().to_json())
    assert Predictor(path).metadata == classifier()


def test_a_description_of_another_graph_is_refused(tmp_path):
    path = write_onnx(tmp_path / 'cls.onnx', classifier(), describe=False)
    sidecar = tmp_path / 'cls.onnx.json'
    sidecar.write_text(classifier(output=OutputSpec('probabilities', ('scores',), None)).to_json())
    with pytest.raises(UserError, match='lacks the outputs scores'):
        Predictor(path)
    uint8 = InputSpec('images', 'uint8', 'NCHW', None, 48, 64, normalized_inside=True)
    sidecar.write_text(classifier(input=uint8).to_json())
    with pytest.raises(UserError, match='its description images: uint8'):
        Predictor(path)


@pytest.mark.parametrize(
    ('name', 'content', 'said'),
    [
        ('model.onnx', b'', 'its checksum is missing'),
        ('model.onnx', b'garbage' * 100, 'its checksum is missing'),
        ('model.xml', b'<html></html>', 'its checksum is missing'),
        ('model.engine', b'', 'deployed files end in .onnx, .xml, .pt2, .tflite, .pte, .param or .mnn'),
    ],
)
def test_a_bad_file_is_refused_by_name_in_one_line(name, content, said, tmp_path):
    if name.endswith('.xml'):
        pytest.importorskip('openvino')
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError, match=said) as error:
        Predictor(path)
    assert str(path) in str(error.value)
    assert '\n' not in str(error.value)


def test_a_missing_file_and_wrong_numbers_are_refused(tmp_path):
    with pytest.raises(UserError, match='no such file'):
        Predictor(tmp_path / 'model.onnx')
    with pytest.raises(ValueError, match='batch_size is 0'):
        Predictor(tmp_path / 'model.onnx', batch_size=0)


WITHOUT_TRAINING_STACK = """
import sys
for name in ('torch', 'torchvision', 'mmengine', 'mmcv', 'mmdet', 'mmseg', 'mmpretrain', 'matplotlib', 'scipy'):
    sys.modules[name] = None  # importing it fails
from emo_mm.cli import main
from emo_mm.runtime import Predictor
print(len(Predictor(sys.argv[1])(sys.argv[2]).labels))
code = main(['predict', sys.argv[2], '--model', sys.argv[1], '--out', sys.argv[3], '--save-json', '--save-images'])
assert main(['predict', sys.argv[2], '--model', 'emo_1m_imagenet']) == 1
sys.exit(code)
"""


def test_prediction_needs_neither_torch_nor_a_toolbox(tmp_path, mean_grey):
    from PIL import Image

    path = write_onnx(tmp_path / 'det.onnx', detector())
    Image.fromarray(mean_grey).save(tmp_path / 'grey.png')
    command = [sys.executable, '-c', WITHOUT_TRAINING_STACK, path, tmp_path / 'grey.png', tmp_path / 'out']
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == '4'
    assert {p.relative_to(tmp_path / 'out').as_posix() for p in (tmp_path / 'out').rglob('*.*')} == {
        'results.json',
        'images/grey.jpg',
    }
    assert 'a model in PyTorch needs what is missing here (torch)' in done.stderr


@pytest.mark.slow
def test_the_runtime_extra_installs_what_prediction_needs_and_no_torch(tmp_path, repo_root: Path, mean_grey):
    """In a virtual environment that pip fills from the package index."""
    from PIL import Image

    model = write_onnx(tmp_path / 'det.onnx', detector())
    Image.fromarray(mean_grey).save(tmp_path / 'grey.png')
    source, venv = tmp_path / 'source', tmp_path / 'venv'  # a copy: building leaves its products
    for name in ('emo_mm', 'configs', 'tools', 'requirements'):
        shutil.copytree(repo_root / name, source / name, ignore=shutil.ignore_patterns('__pycache__'))
    for name in ('setup.py', 'pyproject.toml', 'MANIFEST.in', 'README.md', 'LICENSE'):
        shutil.copy2(repo_root / name, source)
    subprocess.run([sys.executable, '-m', 'venv', venv], check=True)
    subprocess.run([venv / 'bin' / 'pip', 'install', '-q', f'{source}[runtime]'], check=True, cwd=tmp_path)
    listed = subprocess.run([venv / 'bin' / 'pip', 'list'], check=True, capture_output=True, text=True).stdout
    assert 'onnxruntime' in listed
    assert not any(line.startswith(('torch', 'mm', 'onedl')) for line in listed.splitlines())
    command = [venv / 'bin' / 'emo-mm', 'predict', tmp_path / 'grey.png', '--model', model]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path)
    assert 'grey.png: cat 0.88' in done.stdout
