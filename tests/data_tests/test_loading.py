"""Kept images and reduced decoding: the pixels, the frame of the boxes, and what happens when files change."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import cv2
import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile, Resize
from PIL import Image
from planning import cache_images, use_reduced_decoding

from emo_mm.config.names import get_config
from emo_mm.data.speed import fast_loading
from emo_mm.data.speed.loading import ImageCache, LoadCachedImage, LoadResizedImage
from emo_mm.errors import UserError

pytestmark = pytest.mark.toolbox


def photograph(path, width, height, seed=0, cell=16, **save):
    """Write random colours that change smoothly over cells of some pixels."""
    coarse = np.random.default_rng(seed).integers(0, 256, (height // cell + 1, width // cell + 1, 3), np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    Image.fromarray(image).save(path, **save)
    return path


def loaded(transform, path):
    return transform({'img_path': str(path)})


def assert_same(results, expected):
    assert results.keys() == expected.keys()
    np.testing.assert_array_equal(results['img'], expected['img'])
    assert {k: v for k, v in results.items() if k != 'img'} == {k: v for k, v in expected.items() if k != 'img'}


class TestCache:
    def test_kept_images_are_those_of_the_file(self, tmp_path):
        path = photograph(tmp_path / 'a.jpg', 64, 48)
        load = LoadCachedImage(str(tmp_path / 'cache'), 10**6)
        expected = loaded(LoadImageFromFile(), path)
        assert_same(loaded(load, path), expected)
        assert load.cache.get(str(path), 'color cv2 False') is not None
        assert_same(loaded(load, path), expected)

    def test_the_second_reading_does_not_decode(self, tmp_path, monkeypatch):
        path = photograph(tmp_path / 'a.jpg', 64, 48)
        load = LoadCachedImage(str(tmp_path / 'cache'), 10**6)
        first = loaded(load, path)
        monkeypatch.setattr('mmcv.imfrombytes', None)
        assert_same(loaded(LoadCachedImage(str(tmp_path / 'cache'), 10**6), path), first)

    def test_what_is_done_to_an_image_does_not_reach_the_cache(self, tmp_path):
        path = photograph(tmp_path / 'a.jpg', 64, 48)
        load = LoadCachedImage(str(tmp_path / 'cache'), 10**6)
        for _ in range(3):
            results = loaded(load, path)
            assert_same(results, loaded(LoadImageFromFile(), path))
            results['img'][:] = 0

    def test_a_changed_file_is_decoded_again_in_the_place_of_the_old(self, tmp_path):
        path = photograph(tmp_path / 'a.jpg', 64, 48)
        load = LoadCachedImage(str(tmp_path / 'cache'), 10**6)
        loaded(load, path)
        used = load.cache.used()
        stamp = path.stat().st_mtime_ns
        photograph(path, 64, 48, seed=1)
        os.utime(path, ns=(stamp + 1, stamp + 1))
        assert_same(loaded(load, path), loaded(LoadImageFromFile(), path))
        assert load.cache.used() == used

    def test_the_limit_holds_and_images_beyond_it_are_decoded(self, tmp_path):
        paths = [photograph(tmp_path / f'{i}.jpg', 64, 48, seed=i) for i in range(4)]
        limit = 2 * 64 * 48 * 3 + 1000
        load = LoadCachedImage(str(tmp_path / 'cache'), limit)
        for _ in range(2):
            for path in paths:
                assert_same(loaded(load, path), loaded(LoadImageFromFile(), path))
        entries = list((tmp_path / 'cache').glob('*.npy'))
        assert len(entries) == 2
        assert load.cache.used() == sum(entry.stat().st_size for entry in entries) <= limit

    def test_an_entry_that_a_crash_cut_short_is_replaced(self, tmp_path):
        path = photograph(tmp_path / 'a.jpg', 64, 48)
        load = LoadCachedImage(str(tmp_path / 'cache'), 10**6)
        expected = loaded(load, path)
        (entry,) = (tmp_path / 'cache').glob('*.npy')
        for length in (0, 10, 40, 1000):
            entry.write_bytes(entry.read_bytes()[:length])
            assert_same(loaded(load, path), expected)

    def test_a_cache_that_is_removed_meanwhile_stops_nothing(self, tmp_path):
        path = photograph(tmp_path / 'a.jpg', 64, 48)
        load = LoadCachedImage(str(tmp_path / 'cache'), 10**6)
        shutil.rmtree(tmp_path / 'cache')
        assert_same(loaded(load, path), loaded(LoadImageFromFile(), path))

    def test_several_processes_share_it_and_its_limit(self, tmp_path):
        names = [str(photograph(tmp_path / f'{i}.png', 32, 32, seed=i)) for i in range(24)]
        limit = 10 * (32 * 32 * 3 + 200)
        tasks = [(str(tmp_path / 'cache'), limit, names[start:] + names[:start]) for start in (0, 8, 16)]
        with ProcessPoolExecutor(3, mp_context=get_context('fork')) as pool:
            assert list(pool.map(_all_right, tasks)) == [True] * 3
        entries = list((tmp_path / 'cache').glob('*.npy'))
        assert 8 <= len(entries) <= 10
        assert sum(entry.stat().st_size for entry in entries) <= ImageCache(tmp_path / 'cache', limit).used() <= limit

    def test_a_limit_must_be_positive(self, tmp_path):
        with pytest.raises(ValueError, match='limit is 0'):
            ImageCache(tmp_path, 0)


def _all_right(task):
    folder, limit, names = task
    load = LoadCachedImage(folder, limit)
    return all(np.array_equal(loaded(load, name)['img'], cv2.imread(name)) for name in names for _ in range(2))


def loaders(cfg):
    return [loader['dataset'].get('dataset', loader['dataset'])['pipeline'][0] for loader in
            (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader)]  # fmt: skip


class TestCacheOption:
    @pytest.mark.parametrize('name', ['ssdlite_emo_2m_coco', 'deeplabv3_emo_1m_ade20k', 'emo_1m_imagenet'])
    def test_it_reaches_every_split_of_every_task(self, name, tmp_path, monkeypatch):
        monkeypatch.setenv('EMO_MM_CACHE', str(tmp_path))
        cfg = get_config(name)
        (line,) = cache_images(cfg, 'disk', 0.001)
        assert f'{tmp_path}/images' in line
        assert 'at most 0.0 GB, kept for later runs' in line
        assert {step['type'] for step in loaders(cfg)} == {'emo_mm.LoadCachedImage'}
        assert loaders(cfg)[0]['cache_limit'] == 10**6

    def test_memory_is_given_back_at_the_end_of_the_process(self, tmp_path):
        script = (
            'import sys; from pathlib import Path; from emo_mm.config.names import get_config;'
            'from emo_mm.config.view import read_view;'
            'from emo_mm.data.speed import fast_loading; fast_loading.SHARED_MEMORY = Path(sys.argv[1]);'
            'view = read_view(get_config("emo_1m_demo"), "train");'
            'print(fast_loading.cache_images(view, "ram", 0.001).lines[0]);'
            'print(len(list(fast_loading.SHARED_MEMORY.iterdir())))'
        )
        (tmp_path / 'emo_mm_images_999999999_left').mkdir()  # of a process that was killed
        done = subprocess.run([sys.executable, '-c', script, str(tmp_path)], capture_output=True, text=True, check=True)
        assert 'removed at the end' in done.stdout
        assert done.stdout.split()[-1] == '1'
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ('kind', 'gigabytes', 'change', 'message'),
        [
            ('disk', 1e9, {}, 'has room for'),
            ('disk', 0, {}, 'has room for'),
            ('ram', 0.001, {'launcher': 'pytorch'}, 'share --cache disk'),
            ('ram', 0.001, {'memory': 'absent'}, 'take --cache disk'),
            ('disk', 0.001, {'backend_args': {'backend': 'petrel'}}, 'backend_args'),
        ],
    )
    def test_faults_are_named(self, kind, gigabytes, change, message, tmp_path, monkeypatch):
        monkeypatch.setenv('EMO_MM_CACHE', str(tmp_path))
        if 'memory' in change:
            monkeypatch.setattr(fast_loading, 'SHARED_MEMORY', tmp_path / change['memory'])
        cfg = get_config('ssdlite_emo_2m_coco')
        cfg.launcher = change.get('launcher', 'none')
        if 'backend_args' in change:
            loaders(cfg)[0]['backend_args'] = change['backend_args']
        with pytest.raises(UserError, match=message):
            cache_images(cfg, kind, gigabytes)

    def test_a_size_without_a_cache_is_refused(self, run_cli, tmp_path, shared_dir):
        args = ['train', 'ssdlite_emo_2m_coco', '--data-root', shared_dir / 'data/coco_tiny', '--cache-gb', '1']
        result = run_cli(*args, '--work-dir', tmp_path)
        assert result.code == 1
        assert '--cache ram or --cache disk' in result.err


def two_transforms(path, **resize):
    return Resize(**resize)(loaded(LoadImageFromFile(), path))


class TestReducedDecoding:
    @pytest.mark.parametrize(
        ('size', 'keep_ratio'), [((640, 480), False), ((640, 639), False), ((500, 300), True), ((300, 500), True)]
    )
    def test_files_that_no_fraction_covers_give_the_pixels_of_loading_and_resizing(self, size, keep_ratio, tmp_path):
        path = photograph(tmp_path / 'a.jpg', *size)
        resize = dict(scale=(320, 320), keep_ratio=keep_ratio)
        assert_same(loaded(LoadResizedImage(**resize), path), two_transforms(path, **resize))

    @pytest.mark.parametrize(
        ('size', 'decoded'),
        [((1280, 960), 2), ((1279, 1279), 2), ((1281, 1280), 4), ((640, 640), 2), ((641, 639), 1), ((3000, 2600), 8)],
    )
    def test_no_side_is_decoded_below_the_wanted_size(self, size, decoded, tmp_path, monkeypatch):
        path = photograph(tmp_path / 'a.jpg', *size)
        shapes = []
        decode = cv2.imdecode
        monkeypatch.setattr(cv2, 'imdecode', lambda *args: shapes.append(decode(*args).shape[:2]) or decode(*args))
        loaded(LoadResizedImage(scale=(320, 320)), path)
        assert shapes == [(-(-size[1] // decoded), -(-size[0] // decoded))]
        assert min(shapes[0]) >= 320 or decoded == 1

    @pytest.mark.parametrize('keep_ratio', [False, True])
    @pytest.mark.parametrize('orientation', [1, 3, 6])
    def test_the_frame_is_that_of_the_file_and_the_picture_the_same(self, keep_ratio, orientation, tmp_path):
        exif = Image.Exif()
        exif[274] = orientation
        path = photograph(tmp_path / 'a.jpg', 1501, 1001, cell=200, exif=exif)
        resize = dict(scale=(333, 200), keep_ratio=keep_ratio)
        results, expected = loaded(LoadResizedImage(**resize), path), two_transforms(path, **resize)
        assert {k: v for k, v in results.items() if k != 'img'} == {k: v for k, v in expected.items() if k != 'img'}
        assert results['img'].shape == expected['img'].shape
        assert not np.array_equal(results['img'], expected['img'])  # it was decoded at a fraction
        assert np.abs(results['img'].astype(int) - expected['img']).mean() < 2

    def test_other_formats_give_the_pixels_of_loading_and_resizing(self, tmp_path):
        path = photograph(tmp_path / 'a.png', 1280, 960)
        assert_same(loaded(LoadResizedImage((320, 320)), path), two_transforms(path, scale=(320, 320)))

    @pytest.mark.parametrize('content', [b'\xff\xd8 no image', b'text'])
    def test_what_is_no_image_is_named(self, content, tmp_path):
        (tmp_path / 'a.jpg').write_bytes(content)
        with pytest.raises(ValueError, match=r'a\.jpg cannot be decoded'):
            loaded(LoadResizedImage((320, 320)), tmp_path / 'a.jpg')

    def test_a_scale_must_be_two_positive_numbers(self):
        with pytest.raises(ValueError, match='scale is'):
            LoadResizedImage((320, 0))

    @pytest.mark.parametrize('name', ['ssdlite_emo_2m_coco', 'retinanet_emo_1m_coco', 'deeplabv3_emo_1m_ade20k'])
    def test_the_option_joins_loading_and_resizing(self, name):
        cfg = get_config(name)
        resize = dict(cfg.test_dataloader.dataset.pipeline[1])
        rest = [step['type'] for step in cfg.test_dataloader.dataset.pipeline[2:]]
        use_reduced_decoding(cfg)
        first, *others = cfg.test_dataloader.dataset.pipeline
        assert first == {**resize, 'type': 'emo_mm.LoadResizedImage'}
        assert [step['type'] for step in others] == rest

    def test_pipelines_that_do_not_resize_so_are_refused(self):
        with pytest.raises(UserError, match='must begin with LoadImageFromFile and Resize'):
            use_reduced_decoding(get_config('emo_1m_imagenet'))
