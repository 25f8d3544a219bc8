"""Images of every kind are read as the toolboxes read them, or refused in one line that names the file."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emo_mm.errors import UserError
from emo_mm.runtime.images import check_pixels, read_image, upright_size


@pytest.fixture
def photo() -> np.ndarray:
    """A smooth picture of 40x30 that is not symmetric."""
    rows, columns = np.mgrid[0:30, 0:40]
    return np.stack([columns * 6, rows * 8, 255 - columns * 3 - rows * 3], axis=2).astype(np.uint8)


def by_opencv(path: Path) -> np.ndarray:
    cv2 = pytest.importorskip('cv2')
    return cv2.imread(str(path), cv2.IMREAD_COLOR)[:, :, ::-1]


@pytest.mark.parametrize('mode', ['RGB', 'L', 'P', 'RGBA', 'LA', '1'])
def test_modes_of_png_are_read_as_opencv_reads_them(mode, photo, tmp_path):
    path = tmp_path / 'image.png'
    Image.fromarray(photo).convert(mode).save(path)
    read = read_image(path)
    assert read.shape == (30, 40, 3)
    np.testing.assert_array_equal(read, by_opencv(path))


def test_transparency_is_dropped_and_not_painted(photo, tmp_path):
    image = Image.fromarray(photo)
    image.putalpha(0)
    image.save(tmp_path / 'clear.png')
    np.testing.assert_array_equal(read_image(tmp_path / 'clear.png'), photo)


@pytest.mark.parametrize('mode', ['RGB', 'L', 'CMYK'])
def test_modes_of_jpeg_are_read_as_opencv_reads_them(mode, photo, tmp_path):
    path = tmp_path / 'image.jpg'
    Image.fromarray(photo).convert(mode).save(path, quality=95)
    # CMYK becomes RGB by slightly different rounding
    np.testing.assert_allclose(read_image(path).astype(int), by_opencv(path), atol=2 if mode == 'CMYK' else 0)


def test_16_bits_are_cut_to_the_upper_8(tmp_path):
    grey = (np.arange(30 * 40, dtype=np.uint16) * 54).reshape(30, 40)
    Image.fromarray(grey).save(tmp_path / 'deep.png')
    read = read_image(tmp_path / 'deep.png')
    np.testing.assert_array_equal(read[..., 0], grey >> 8)
    np.testing.assert_array_equal(read, by_opencv(tmp_path / 'deep.png'))


@pytest.mark.parametrize('orientation', range(1, 9))
def test_photographs_stand_upright_as_exif_says(orientation, photo, tmp_path):
    path = tmp_path / 'turned.jpg'
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(photo).save(path, quality=95, exif=exif)
    read = read_image(path)
    assert read.shape == ((30, 40, 3) if orientation < 5 else (40, 30, 3))
    with Image.open(path) as image:
        assert upright_size(image) == (read.shape[1], read.shape[0])
    np.testing.assert_array_equal(read, by_opencv(path))


@pytest.mark.filterwarnings('ignore:Corrupt EXIF')
def test_damaged_exif_harms_no_pixel(photo, tmp_path):
    path = tmp_path / 'image.jpg'
    Image.fromarray(photo).save(path, quality=95, exif=b'Exif\0\0MM\0*\xff\xff\xff\xff garbage')
    assert read_image(path).shape == (30, 40, 3)


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

    header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', zlib.compress(b''))


def test_a_decompression_bomb_is_refused_before_it_is_unpacked(tmp_path):
    path = tmp_path / 'bomb.png'
    path.write_bytes(png_header(60_000, 60_000))
    with pytest.raises(UserError, match=r'bomb\.png: is refused'):
        read_image(path)


@pytest.mark.filterwarnings('ignore::PIL.Image.DecompressionBombWarning')
def test_an_image_12000_pixels_wide_is_read(tmp_path):
    path = tmp_path / 'wide.png'
    Image.new('L', (12_000, 400), 7).save(path)
    read = read_image(path)
    assert read.shape == (400, 12_000, 3)
    assert (read == 7).all()


def broken(path: Path, photo: np.ndarray) -> dict[str, bytes]:
    Image.fromarray(photo).save(path / 'whole.jpg')
    Image.fromarray(photo).save(path / 'whole.png')
    jpeg, png = (path / 'whole.jpg').read_bytes(), (path / 'whole.png').read_bytes()
    return {
        'empty.jpg': b'',
        'text.jpg': b'<html>not found</html>',
        'cut.jpg': jpeg[: len(jpeg) // 2],
        'cut.png': png[: len(png) // 2],
        'header.png': png_header(10, 10),
        'zeros.bmp': b'BM' + b'\0' * 60,
    }


@pytest.mark.parametrize('name', ['empty.jpg', 'text.jpg', 'cut.jpg', 'cut.png', 'header.png', 'zeros.bmp'])
def test_a_damaged_file_is_refused_by_name_in_one_line(name, photo, tmp_path):
    path = tmp_path / name
    path.write_bytes(broken(tmp_path, photo)[name])
    with pytest.raises(UserError) as error:
        read_image(path)
    assert str(error.value).startswith(f'{path}: ')
    assert '\n' not in str(error.value)


def test_floating_point_pixels_are_refused(tmp_path):
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / 'float.tif')
    with pytest.raises(UserError, match='convert it to 8 bits'):
        read_image(tmp_path / 'float.tif')


@pytest.mark.parametrize(('path', 'said'), [('nothing.jpg', 'no such file'), ('.', 'folder')])
def test_what_is_no_file_is_told(path, said, tmp_path):
    with pytest.raises(UserError, match=said):
        read_image(tmp_path / path)


@pytest.mark.parametrize('array', [np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)])
def test_arrays_of_another_kind_are_refused(array):
    with pytest.raises(UserError, match='uint8 of'):
        check_pixels(array)
