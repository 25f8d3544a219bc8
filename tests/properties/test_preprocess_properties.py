"""Images of any size and kind reach the network through the runtime as they do through the toolboxes' pipelines."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from descriptions import STRETCH, detector
from exploring import explore, few_or_many, refusal_of
from hypothesis import strategies as st
from PIL import Image

from emo_mm.errors import UserError
from emo_mm.runtime.images import decode_image
from emo_mm.runtime.metadata import InputSpec, Preprocessing
from emo_mm.runtime.preprocess import MAX_SIDE, input_size, make_batch, prepare

pytestmark = pytest.mark.toolbox

SIDES = st.one_of(st.integers(1, 400), st.integers(1, 20))
SCALES = st.integers(1, 300)


def noise(height: int, width: int, seed: int) -> np.ndarray:
    """Blocks of colour and noise, (H, W, 3)."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (-(-height // 16), -(-width // 16), 3))
    blocks = np.kron(coarse, np.ones((16, 16, 1), int))[:height, :width]
    return (blocks + rng.integers(-30, 31, (height, width, 3))).clip(0, 255).astype(np.uint8)


@st.composite
def preprocessings(draw: st.DrawFn) -> Preprocessing:
    kind = draw(st.sampled_from(('stretch', 'keep_ratio', 'short_edge', 'none')))
    backend = draw(st.sampled_from(('cv2', 'pillow')))
    edge = draw(SCALES)
    scale = {'none': (0, 0), 'short_edge': (edge, edge)}.get(kind, (edge, draw(SCALES)))
    modes = ('nearest', 'bilinear', 'bicubic', 'area', 'lanczos')
    return replace(
        STRETCH,
        resize=kind,
        scale=scale,
        backend=backend,
        interpolation=draw(st.sampled_from(modes)),
        crop=draw(st.one_of(st.none(), st.tuples(SCALES, SCALES))),
        pad_divisor=draw(st.sampled_from((1, 2, 32))),
    )


def through_the_toolbox(image: np.ndarray, how: Preprocessing) -> np.ndarray:
    """The pixels that transforms of mmcv and mmpretrain make of an image, red first."""
    from mmcv.transforms import Resize
    from mmpretrain.datasets.transforms import CenterCrop, ResizeEdge

    options = dict(
        backend=how.backend,
        interpolation=how.interpolation.replace('area', 'box' if how.backend == 'pillow' else 'area'),
    )
    steps: list[Any] = []
    if how.resize == 'short_edge':
        steps.append(ResizeEdge(how.scale[0], edge='short', **options))
    elif how.resize != 'none':
        steps.append(Resize(how.scale, keep_ratio=how.resize == 'keep_ratio', **options))
    if how.crop is not None:
        steps.append(CenterCrop(how.crop))
    results: Any = {'img': image[:, :, ::-1], 'img_shape': image.shape[:2], 'ori_shape': image.shape[:2]}
    for step in steps:
        results = step(results)
    return results['img'][:, :, ::-1]


@few_or_many(60, 3000)
def test_sizes_modes_and_padding_are_those_of_the_toolboxes(examples):
    import torch
    from mmengine.model import ImgDataPreprocessor

    def check(drawn: tuple[Preprocessing, int, int, int]) -> None:
        how, height, width, seed = drawn
        image = noise(height, width, seed)
        said = refusal_of(lambda: prepare(image, how), UserError)
        if said is not None:
            assert 'would be resized to' in said
            found: list[np.ndarray] = []
            # OpenCV, Pillow and Python refuse an image of no pixels; one beyond our limit is ours alone to refuse
            resized = replace(how, crop=None)
            refused = refusal_of(lambda: found.append(through_the_toolbox(image, resized)), Exception)
            assert refused is not None or max(found[0].shape[:2]) > MAX_SIDE
            return
        prepared = prepare(image, how)
        expected = through_the_toolbox(image, how)
        assert prepared.pixels.shape == expected.shape
        assert np.abs(prepared.pixels.astype(int) - expected).max() <= 1

        spec = InputSpec('x', 'float32', 'NCHW', None, None, None, normalized_inside=False)
        metadata = detector(preprocessing=how, input=spec)
        batch = make_batch([prepared], input_size(prepared, metadata), metadata)
        to_input = ImgDataPreprocessor(how.mean, how.std, how.pad_divisor, how.pad_value)
        pixels = torch.from_numpy(np.ascontiguousarray(prepared.pixels.transpose(2, 0, 1)))  # h,w,3 -> 3,h,w
        np.testing.assert_allclose(batch, to_input({'inputs': [pixels]})['inputs'].numpy(), atol=1e-5)

    explore(check, st.tuples(preprocessings(), SIDES, SIDES, st.integers(0, 99)), examples)


@st.composite
def files(draw: st.DrawFn) -> tuple[str, str, int, int, int, int]:
    """Kind, mode, orientation, quality and size of an image file."""
    kind, mode = draw(
        st.sampled_from(
            [('JPEG', 'RGB'), ('JPEG', 'L'), ('JPEG', 'CMYK')]
            + [('PNG', mode) for mode in ('RGB', 'L', 'P', 'PA', 'RGBA', 'LA', '1', 'I;16')]
            + [('BMP', mode) for mode in ('RGB', 'L', 'P', '1')]
            + [('TIFF', mode) for mode in ('RGB', 'L', 'RGBA')]
            + [('WEBP', 'RGB'), ('PPM', 'RGB'), ('PPM', 'L')]
        )
    )
    return kind, mode, draw(st.integers(0, 9)), draw(st.integers(30, 100)), draw(SIDES), draw(SIDES)


@few_or_many(60, 3000)
def test_files_of_any_kind_have_the_pixels_that_the_toolboxes_load(examples):
    import mmcv

    def check(drawn: tuple[str, str, int, int, int, int]) -> None:
        kind, mode, orientation, quality, height, width = drawn
        image = Image.fromarray(noise(height, width, quality))
        if mode == 'I;16':
            image = Image.fromarray(np.asarray(image.convert('L')).astype(np.uint16) * 257 + 3)
        elif mode == 'PA':  # a palette with transparent colours
            image = image.convert('P')
            image.info['transparency'] = 0
        elif mode != 'RGB':
            image = image.convert(mode)
        buffer = io.BytesIO()
        options: dict[str, Any] = {'quality': quality} if kind in ('JPEG', 'WEBP') else {}
        if kind == 'JPEG':
            exif = Image.Exif()
            exif[0x0112] = orientation
            options['exif'] = exif
        image.save(buffer, kind, **options)
        read = decode_image(buffer.getvalue(), 'image')
        expected = mmcv.imfrombytes(buffer.getvalue(), flag='color', channel_order='rgb', backend='cv2')
        assert read.shape == expected.shape
        # inks become colours by slightly different rounding
        assert np.abs(read.astype(int) - expected).max() <= (2 if mode == 'CMYK' else 1)

    explore(check, files(), examples)
