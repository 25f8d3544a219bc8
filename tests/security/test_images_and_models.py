"""Images, videos, annotations and deployed files that claim more than they hold, or name other files."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from data_trees import annotations, write_coco
from deployed_files import write_onnx
from descriptions import classifier
from PIL import Image

from emo_mm.errors import UserError
from emo_mm.runtime import Predictor
from emo_mm.runtime.images import read_image
from emo_mm.runtime.seal import seal
from emo_mm.runtime.sessions import open_session
from emo_mm.runtime.sources import find_sources

SIDE = 60_000  # 3.6 billion pixels


def png(path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

    header = struct.pack('>IIBBBBB', SIDE, SIDE, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(100_000))
    path.write_bytes(b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', pixels) + chunk(b'IEND', b''))


def jpeg(path: Path) -> None:
    Image.new('RGB', (16, 16)).save(path, format='JPEG')
    data = path.read_bytes()
    start = data.index(b'\xff\xc0') + 5  # length and precision come before height and width
    path.write_bytes(data[:start] + struct.pack('>HH', SIDE, SIDE) + data[start + 4 :])


def gif(path: Path) -> None:
    Image.new('P', (16, 16)).save(path, format='GIF')
    data = bytearray(path.read_bytes())
    data[6:10] = struct.pack('<HH', SIDE, SIDE)
    path.write_bytes(data)


def tiff(path: Path) -> None:
    Image.new('RGB', (16, 16)).save(path, format='TIFF')
    data = bytearray(path.read_bytes())
    first = struct.unpack_from('<I', data, 4)[0]
    for entry in range(struct.unpack_from('<H', data, first)[0]):
        place = first + 2 + 12 * entry
        if struct.unpack_from('<H', data, place)[0] in (256, 257):  # width, height
            struct.pack_into('<HII', data, place + 2, 4, 1, SIDE)
    path.write_bytes(data)


def bmp(path: Path) -> None:
    Image.new('RGB', (16, 16)).save(path, format='BMP')
    data = bytearray(path.read_bytes())
    data[18:26] = struct.pack('<ii', SIDE, SIDE)
    path.write_bytes(data)


def ppm(path: Path) -> None:
    path.write_bytes(b'P6 %d %d 255\n' % (SIDE, SIDE) + bytes(1000))


CLAIMS = [png, jpeg, gif, tiff, bmp, ppm]


@pytest.mark.parametrize('write', CLAIMS)
def test_an_image_of_too_many_pixels_is_refused_by_its_header(tmp_path, write):
    write(tmp_path / 'bomb')
    with pytest.raises(UserError, match='is refused: Image size') as caught:
        read_image(tmp_path / 'bomb')
    assert '\n' not in str(caught.value)


def test_images_of_12000_pixels_a_side_are_read(tmp_path):
    Image.new('1', (12_000, 12_000), 1).save(tmp_path / 'large.png')
    assert read_image(tmp_path / 'large.png').shape == (12_000, 12_000, 3)


@pytest.mark.parametrize('write', [png, jpeg, tiff, bmp])
def test_what_decodes_in_training_refuses_it_too(tmp_path, write):
    """OpenCV takes its limit from the environment as it is loaded, so this is a process as `emo-mm` starts one."""
    write(tmp_path / 'bomb')
    code = f"""
import contextlib, resource
from emo_mm.cli import main
with contextlib.suppress(SystemExit):
    main(['--version'])
main(['list', '--task', 'cls'])
import cv2, numpy
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
data = numpy.fromfile({str(tmp_path / 'bomb')!r}, numpy.uint8)
try:
    print('read', cv2.imdecode(data, cv2.IMREAD_COLOR) is not None)
except cv2.error as error:
    print('refused' if 'CV_IO_MAX_IMAGE_PIXELS' in str(error) else error)
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False)
    assert done.stdout.endswith(('refused\n', 'read False\n')), done.stdout + done.stderr


@pytest.mark.parametrize('head', [b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n', b'\xd7\xcd\xc6\x9a' + bytes(9)])
def test_kinds_that_other_programs_draw_are_not_opened(tmp_path, head):
    (tmp_path / 'x.jpg').write_bytes(head)
    with pytest.raises(UserError, match='is no image'):
        read_image(tmp_path / 'x.jpg')


# -- Videos ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('text', ['#EXTM3U\n#EXTINF:1,\n/etc/hostname\n', 'ffconcat version 1.0\nfile /etc/hostname\n'])
def test_a_playlist_called_a_video_is_not_followed(tmp_path, text):
    pytest.importorskip('cv2')
    (tmp_path / 'x.mp4').write_text(text)
    with pytest.raises(UserError, match='playlists'):
        find_sources([str(tmp_path / 'x.mp4')])


def test_a_video_whose_header_claims_too_many_pixels_is_refused(tmp_path):
    cv2 = pytest.importorskip('cv2')
    path = tmp_path / 'x.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 5, (64, 48))
    if not writer.isOpened():
        pytest.skip('this OpenCV writes no video')
    writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    data = bytearray(path.read_bytes())
    place = data.index(b'strf') + 8  # a BITMAPINFOHEADER follows
    data[place + 4 : place + 12] = struct.pack('<ii', SIDE, SIDE)
    path.write_bytes(data)
    items = list(find_sources([str(path)])[0].items())
    # FFmpeg may believe the frames rather than the header; then they are read as small as they are
    if items[0].name != str(path):
        assert items[0].read().shape == (48, 64, 3)
    else:
        with pytest.raises(UserError, match=r'refused|damaged'):
            items[0].read()


# -- Texts -----------------------------------------------------------------------------------------------------------

DEEP = '[' * 100_000 + ']' * 100_000


def test_deep_annotations_are_one_line(tmp_path, run_cli):
    write_coco(tmp_path, annotations())
    (tmp_path / 'annotations' / 'train.json').write_text(DEEP)
    done = run_cli('train', 'ssdlite_emo_1m_demo', '--data-root', tmp_path, '--work-dir', tmp_path / 'work')
    assert done.code == 1
    assert done.err.startswith('error: ')
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize('text', [DEEP, '{"format_version": 1' + ' ' * (17 * 2**20) + '}'])
def test_descriptions_beside_a_file_are_bounded(tmp_path, text):
    path = write_onnx(tmp_path / 'net.onnx', classifier(), describe=False)
    (tmp_path / 'net.onnx.json').write_text(text)
    with pytest.raises(UserError, match='its description of the model cannot be used'):
        open_session(path)


def test_a_description_cannot_ask_for_more_memory_than_an_image_of_16384_pixels_a_side(tmp_path):
    described = json.loads(classifier().to_json())
    described['input'].update(batch=4096, height=16384, width=16384)
    path = write_onnx(tmp_path / 'net.onnx', classifier(), describe=False)
    (tmp_path / 'net.onnx.json').write_text(json.dumps(described))
    with pytest.raises(UserError, match='batch x height x width'):
        open_session(path)


# -- Deployed files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('place', ['../secret.bin', 'ABSOLUTE', 'link.bin', 'sub/../../secret.bin', '/etc/passwd'])
def test_onnx_weights_outside_its_folder_are_not_read(tmp_path, place):
    onnx = pytest.importorskip('onnx')
    pytest.importorskip('onnxruntime')
    (tmp_path / 'secret.bin').write_bytes(bytes(4096))
    folder = tmp_path / 'model'
    folder.mkdir()
    (folder / 'link.bin').symlink_to(tmp_path / 'secret.bin')
    path = write_onnx(folder / 'net.onnx', classifier())
    model = onnx.load(path)
    tensor = model.graph.initializer[0]
    size = len(onnx.numpy_helper.to_array(tensor).tobytes())
    tensor.ClearField('raw_data')
    tensor.data_location = onnx.TensorProto.EXTERNAL
    location = str(tmp_path / 'secret.bin') if place == 'ABSOLUTE' else place
    for key, value in (('location', location), ('offset', '0'), ('length', str(size))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    path.write_bytes(model.SerializeToString())
    seal(path)
    with pytest.raises(UserError, match='ONNX Runtime cannot load it') as caught:
        Predictor(path)
    assert '\n' not in str(caught.value)


LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;"><!ENTITY c SYSTEM "file:///etc/passwd">]>'
    '<net name="&b;&c;" version="11"><layers/><edges/></net>'
)
OUTSIDE = (
    '<?xml version="1.0"?><net name="x" version="11"><layers><layer id="0" name="c" type="Const" version="opset1">'
    '<data element_type="f32" shape="4" offset="99999999999" size="16"/><output><port id="0" precision="FP32"><dim>4'
    '</dim></port></output></layer></layers><edges/></net>'
)


@pytest.mark.parametrize('text', [LAUGHS, OUTSIDE, '<net/>', '', 'PK\x03\x04', '<' * 100_000])
def test_a_made_up_openvino_file_is_one_line(tmp_path, text):
    pytest.importorskip('openvino')
    (tmp_path / 'net.xml').write_text(text)
    (tmp_path / 'net.bin').write_bytes(bytes(16))
    seal(tmp_path / 'net.xml')
    with pytest.raises(UserError) as caught:
        Predictor(tmp_path / 'net.xml')
    assert '\n' not in str(caught.value)


@pytest.mark.toolbox
@pytest.mark.parametrize('suffix', ['.pt2', '.pth', '.onnx', '.xml', '.safetensors'])
def test_programs_of_torch_export_are_never_opened(tmp_path, run_cli, monkeypatch, suffix):
    """`torch.export.load` unpickles what it is given, so no command gives it a file that is not vetted."""
    torch = pytest.importorskip('torch')
    monkeypatch.setattr(torch.export, 'load', None)
    monkeypatch.setattr(torch.jit, 'load', None)
    path = tmp_path / f'net{suffix}'
    program = torch.export.export(torch.nn.Linear(2, 2), (torch.ones(1, 2),))
    torch.export.save(program, tmp_path / 'net.pt2')
    (tmp_path / 'net.pt2').replace(path)
    Image.new('RGB', (8, 8)).save(tmp_path / 'x.png')
    for command in (('predict', tmp_path / 'x.png', '--model', path), ('weights', 'convert', path), ('export', path)):
        done = run_cli(*command)
        assert done.code == 1
        assert done.err.startswith('error: ')
